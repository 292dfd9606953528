// What Kafka Connect makes of a row: the transforms and the converter that a properties file names, as they are.
// java -cp 'libs/*' ConnectTransforms.java FILE:row|FILE:change …   prints a record's value a file.

import java.io.FileReader;
import java.util.Date;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.data.Timestamp;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.storage.Converter;
import org.apache.kafka.connect.transforms.Transformation;

public class ConnectTransforms {
    static final Schema ROW = SchemaBuilder.struct().name("listening").optional()
        .field("listener", Schema.INT32_SCHEMA)
        .field("song", Schema.STRING_SCHEMA)
        .field("played_at", Timestamp.SCHEMA)
        .build();
    static final Schema CHANGE = SchemaBuilder.struct().name("change")
        .field("before", ROW).field("after", ROW).field("op", Schema.STRING_SCHEMA).build();

    public static void main(String[] arguments) throws Exception {
        for (String argument : arguments) {
            String[] parts = argument.split(":");
            Map<String, String> properties = read(parts[0]);
            SourceRecord record = record(parts[1]);
            for (String name : properties.getOrDefault("transforms", "").split(","))
                if (!name.isBlank())
                    record = transformed(record, under("transforms." + name.trim() + ".", properties));
            Converter converter = made(properties.get("value.converter"), Converter.class);
            converter.configure(under("value.converter.", properties), false);
            System.out.println(new String(converter.fromConnectData("topic", record.valueSchema(), record.value()), "UTF-8"));
        }
    }

    static SourceRecord record(String kind) {
        Struct row = new Struct(ROW).put("listener", 101).put("song", "4p8QcNkaq2FQj8uGJ7HEDK")
            .put("played_at", new Date(1686996590547L));
        boolean isRow = kind.equals("row");
        Struct value = isRow ? row : new Struct(CHANGE).put("before", null).put("after", row).put("op", "c");
        return new SourceRecord(Map.of(), Map.of(), "topic", null, isRow ? ROW : CHANGE, value);
    }

    static SourceRecord transformed(SourceRecord record, Map<String, String> properties) throws Exception {
        @SuppressWarnings("unchecked")
        Transformation<SourceRecord> transform = made(properties.get("type"), Transformation.class);
        transform.configure(properties);
        return transform.apply(record);
    }

    static <T> T made(String name, Class<T> kind) throws Exception {
        return kind.cast(Class.forName(name).getDeclaredConstructor().newInstance());
    }

    static Map<String, String> read(String file) throws Exception {
        Properties found = new Properties();
        try (FileReader reader = new FileReader(file)) {
            found.load(reader);
        }
        Map<String, String> properties = new HashMap<>();
        found.forEach((name, value) -> properties.put((String) name, (String) value));
        return properties;
    }

    static Map<String, String> under(String prefix, Map<String, String> properties) {
        Map<String, String> found = new HashMap<>();
        properties.forEach((name, value) -> {
            if (name.startsWith(prefix))
                found.put(name.substring(prefix.length()), value);
        });
        return found;
    }
}

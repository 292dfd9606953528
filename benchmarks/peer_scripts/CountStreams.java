import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.LocalDate;
import java.time.temporal.IsoFields;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.Stores;

/**
 * Plays, skips and likes per week and track in a RocksDB store with its changelog, on two threads.
 *
 * <p>java CountStreams.java GUARANTEE STATE_DIR KAFKA TOPIC N_EVENTS NAME PROGRESS DUMP; the last six are the task of
 * benchmarks/peer_scripts/task.py. The log is keyed by track, so nothing is repartitioned.
 */
public final class CountStreams {
  static final String STORE = "counts";
  static final int ROW = 16; // the week, plays, skips and likes, an int each
  static final LongAdder COUNTED = new LongAdder();
  static final ObjectReader EVENTS = JsonMapper.builder()
      .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES).build().readerFor(Event.class);

  /** The fields of an event as they are on the wire. */
  public static final class Event {
    @JsonProperty("session_id") public String sessionId;
    @JsonProperty("timestamp") public String timestamp;
    @JsonProperty("user_id") public String userId;
    @JsonProperty("track_id") public String trackId;
    @JsonProperty("event_type") public String eventType;
  }

  static final class Count implements Processor<byte[], byte[], Void, Void> {
    private final Map<String, Integer> weeks = new HashMap<>();
    private KeyValueStore<byte[], byte[]> store;

    @Override
    public void init(ProcessorContext<Void, Void> context) {
      store = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      Event event = parse(record.value());
      int week = weeks.computeIfAbsent(event.timestamp.substring(0, 10), CountStreams::weekOf);
      ByteBuffer counts = with(week, store.get(record.key()));
      int at = placeOf(week, counts) + 4 * (1 + kindOf(event.eventType));
      counts.putInt(at, counts.getInt(at) + 1);
      store.put(record.key(), counts.array());
      COUNTED.increment();
    }

    private static int placeOf(int week, ByteBuffer counts) {
      int at = 0;
      while (at < counts.capacity() && counts.getInt(at) != week) at += ROW;
      return at;
    }

    /** A copy of the counters that has a row for the week. */
    private static ByteBuffer with(int week, byte[] old) {
      if (old == null) return ByteBuffer.allocate(ROW).putInt(0, week);
      int length = placeOf(week, ByteBuffer.wrap(old));
      if (length < old.length) return ByteBuffer.wrap(old.clone());
      return ByteBuffer.wrap(Arrays.copyOf(old, length + ROW)).putInt(length, week);
    }

    private static Event parse(byte[] value) {
      try {
        return EVENTS.readValue(value);
      } catch (IOException cause) {
        throw new UncheckedIOException(cause);
      }
    }

    private static int kindOf(String eventType) {
      return switch (eventType) {
        case "play" -> 0;
        case "skip" -> 1;
        case "like" -> 2;
        default -> throw new IllegalArgumentException(eventType);
      };
    }
  }

  /** The ISO week as a number: 202324 is 2023-W24. */
  static int weekOf(String day) {
    LocalDate date = LocalDate.parse(day);
    return 100 * date.get(IsoFields.WEEK_BASED_YEAR) + date.get(IsoFields.WEEK_OF_WEEK_BASED_YEAR);
  }

  static Topology topology(String topic) {
    Topology topology = new Topology();
    topology.addSource("events", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), topic);
    topology.addProcessor("count", Count::new, "events");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(STORE), Serdes.ByteArray(), Serdes.ByteArray())
            .withCachingEnabled(),
        "count");
    return topology;
  }

  static Properties settings(String guarantee, String stateDir, String kafka, String name) {
    Properties settings = new Properties();
    settings.put("application.id", name);
    settings.put("bootstrap.servers", kafka);
    settings.put("processing.guarantee", guarantee);
    settings.put("state.dir", stateDir);
    settings.put("num.stream.threads", "2");
    settings.put("auto.offset.reset", "earliest");
    settings.put("statestore.cache.max.bytes", 128 * 1024 * 1024);
    return settings;
  }

  static MappedByteBuffer map(String progress) throws IOException {
    try (FileChannel file = FileChannel.open(Path.of(progress), StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      MappedByteBuffer shared = file.map(FileChannel.MapMode.READ_WRITE, 0, 16);
      shared.order(ByteOrder.LITTLE_ENDIAN);
      return shared;
    }
  }

  static void dump(KafkaStreams streams, Path path) throws IOException {
    Path part = path.resolveSibling("counts.part");
    var query = StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.<byte[], byte[]>keyValueStore());
    try (var rows = streams.store(query).all(); var sink = Files.newBufferedWriter(part)) {
      while (rows.hasNext()) {
        var row = rows.next();
        String track = new String(row.key, StandardCharsets.UTF_8);
        for (ByteBuffer counts = ByteBuffer.wrap(row.value); counts.hasRemaining(); ) {
          int week = counts.getInt();
          sink.write(String.format("%d-W%02d %s ", week / 100, week % 100, track));
          sink.write(counts.getInt() + " " + counts.getInt() + " " + counts.getInt() + "\n");
        }
      }
    }
    Files.move(part, path);
  }

  public static void main(String[] arguments) throws Exception {
    String guarantee = arguments[0], stateDir = arguments[1], kafka = arguments[2], topic = arguments[3];
    long nEvents = Long.parseLong(arguments[4]);
    MappedByteBuffer shared = map(arguments[6]);
    KafkaStreams streams = new KafkaStreams(topology(topic), settings(guarantee, stateDir, kafka, arguments[5]));
    streams.start();
    while (COUNTED.sum() < nEvents) {
      shared.putLong(0, COUNTED.sum());
      Thread.sleep(10);
    }
    shared.putLong(0, COUNTED.sum());
    while (shared.get(8) == 0) Thread.sleep(10);
    dump(streams, Path.of(arguments[7]));
    Runtime.getRuntime().halt(0);
  }
}

import java.io.IOException;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.LocalDate;
import java.time.temporal.IsoFields;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.Table;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.functions.ScalarFunction;
import org.apache.flink.types.Row;
import org.apache.flink.util.Collector;

/**
 * Plays, skips and likes per week and track in Flink SQL, in one process, on two slots.
 *
 * <p>java CountFlink.java BACKEND STATE_DIR KAFKA TOPIC N_EVENTS NAME PROGRESS DUMP; the last six are the task of
 * benchmarks/peer_scripts/task.py. A running GROUP BY, whose changes are upserted into a map of this process: the
 * counters can be read at any time, as everybody's can, and nothing is spent on where they are written to.
 */
public final class CountFlink {
  static final LongAdder COUNTED = new LongAdder();
  static final Map<Key, Counts> ROWS = new ConcurrentHashMap<>();

  record Key(int week, String track) {}

  record Counts(long plays, long skips, long likes) {}

  /** Looks at what goes into the counters. */
  public static final class Counted extends ScalarFunction {
    public String eval(String id) {
      COUNTED.increment();
      return id;
    }

    @Override
    public boolean isDeterministic() {
      return false;
    }
  }

  /** The ISO week of a timestamp as a number: 202324 is 2023-W24. Each day is looked up once. */
  public static final class WeekOf extends ScalarFunction {
    private final HashMap<String, Integer> weeks = new HashMap<>();

    public int eval(String timestamp) {
      return weeks.computeIfAbsent(timestamp.substring(0, 10), WeekOf::ofDay);
    }

    private static int ofDay(String day) {
      LocalDate date = LocalDate.parse(day);
      return 100 * date.get(IsoFields.WEEK_BASED_YEAR) + date.get(IsoFields.WEEK_OF_WEEK_BASED_YEAR);
    }
  }

  static final class Keep extends ProcessFunction<Row, Integer> {
    @Override
    public void processElement(Row row, Context context, Collector<Integer> out) {
      Key key = new Key((Integer) row.getField(1), (String) row.getField(0));
      ROWS.put(key, new Counts((Long) row.getField(2), (Long) row.getField(3), (Long) row.getField(4)));
    }
  }

  static final Schema COUNTERS = Schema.newBuilder()
      .column("track_id", "STRING NOT NULL").column("week", "INT NOT NULL")
      .column("plays", "BIGINT").column("skips", "BIGINT").column("likes", "BIGINT")
      .primaryKey("track_id", "week").build();

  static Configuration settings(String backend, String stateDir) {
    Configuration settings = new Configuration();
    settings.setString("parallelism.default", "2");
    settings.setString("state.backend.type", backend);
    settings.setString("execution.checkpointing.interval", "10 s");
    settings.setString("execution.checkpointing.dir", Path.of(stateDir).toAbsolutePath().toUri().toString());
    settings.setString("taskmanager.memory.managed.size", "256m");
    settings.setString("pipeline.object-reuse", "true");
    return settings;
  }

  static String sessions(String kafka, String topic, String name) {
    return "CREATE TABLE sessions (`timestamp` STRING, track_id STRING, event_type STRING) WITH ("
        + "'connector' = 'kafka', 'topic' = '" + topic + "', 'properties.bootstrap.servers' = '" + kafka + "', "
        + "'properties.group.id' = '" + name + "', 'scan.startup.mode' = 'earliest-offset', "
        + "'scan.bounded.mode' = 'latest-offset', 'format' = 'json')";
  }

  static final String COUNTS =
      "SELECT track_id, week, COUNT(*) FILTER (WHERE event_type = 'play') AS plays, "
          + "COUNT(*) FILTER (WHERE event_type = 'skip') AS skips, COUNT(*) FILTER (WHERE event_type = 'like') AS likes "
          + "FROM (SELECT counted(track_id) AS track_id, week_of(`timestamp`) AS week, event_type FROM sessions) "
          + "GROUP BY track_id, week";

  static MappedByteBuffer map(String progress) throws IOException {
    try (FileChannel file = FileChannel.open(Path.of(progress), StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      MappedByteBuffer shared = file.map(FileChannel.MapMode.READ_WRITE, 0, 16);
      shared.order(ByteOrder.LITTLE_ENDIAN);
      return shared;
    }
  }

  static void dump(Path path) throws IOException {
    Path part = path.resolveSibling("counts.part");
    try (var sink = Files.newBufferedWriter(part)) {
      for (var row : ROWS.entrySet()) {
        Counts counts = row.getValue();
        int week = row.getKey().week();
        sink.write(String.format("%d-W%02d %s ", week / 100, week % 100, row.getKey().track()));
        sink.write(counts.plays() + " " + counts.skips() + " " + counts.likes() + "\n");
      }
    }
    Files.move(part, path);
  }

  public static void main(String[] arguments) throws Exception {
    String backend = arguments[0], stateDir = arguments[1], kafka = arguments[2], topic = arguments[3];
    long nEvents = Long.parseLong(arguments[4]);
    MappedByteBuffer shared = map(arguments[6]);
    var environment = StreamExecutionEnvironment.getExecutionEnvironment(settings(backend, stateDir));
    StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
    tables.createTemporarySystemFunction("counted", Counted.class);
    tables.createTemporarySystemFunction("week_of", WeekOf.class);
    tables.executeSql(sessions(kafka, topic, arguments[5]));
    Table counts = tables.sqlQuery(COUNTS);
    tables.toChangelogStream(counts, COUNTERS, ChangelogMode.upsert()).process(new Keep()).sinkTo(new DiscardingSink<>());
    var job = environment.executeAsync(arguments[5]);
    while (COUNTED.sum() < nEvents) {
      shared.putLong(0, COUNTED.sum());
      Thread.sleep(10);
    }
    shared.putLong(0, COUNTED.sum());
    job.getJobExecutionResult().get();
    while (shared.get(8) == 0) Thread.sleep(10);
    dump(Path.of(arguments[7]));
    Runtime.getRuntime().halt(0);
  }
}

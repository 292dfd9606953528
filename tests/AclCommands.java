import java.util.Scanner;
import org.apache.kafka.tools.AclCommand;

/** Kafka's own kafka-acls, once for every line of standard input, of arguments between tabs; it ends with what fails. */
class AclCommands {
    public static void main(String[] none) {
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            AclCommand.main(lines.nextLine().split("\t"));
        }
    }
}

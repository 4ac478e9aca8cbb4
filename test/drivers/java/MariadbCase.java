import java.sql.Connection;
import java.sql.DriverManager;

/** Arguments: the URL, and one with a wrong password. */
final class MariadbCase {
  private MariadbCase() {}

  public static void main(String[] args) throws Exception {
    try (Connection connection = DriverManager.getConnection(args[0])) {
      System.out.println(
          Jdbc.one(
              connection,
              "select variable_value like 'TLSv1.%' from information_schema.session_status"
                  + " where variable_name = 'ssl_version'"));
      System.out.println(Jdbc.size(connection, "select repeat('x', 1000) from seq_1_to_8000"));
    }
    System.out.println(Jdbc.refusal(args[1]));
    System.out.println(Jdbc.together(args[0], 4, "select connection_id()") + " at the same time");
    System.out.println(
        Jdbc.cancelled(
            args[0],
            "select sleep(600)",
            "select count(*) from information_schema.processlist where info = 'select sleep(600)'"
                + " and state = 'User sleep'"));
  }
}

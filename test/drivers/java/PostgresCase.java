import java.sql.Connection;
import java.sql.DriverManager;

/** Arguments: the URL, and one with a wrong password. */
final class PostgresCase {
  private PostgresCase() {}

  public static void main(String[] args) throws Exception {
    try (Connection connection = DriverManager.getConnection(args[0])) {
      System.out.println(Jdbc.one(connection, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"));
      System.out.println(
          Jdbc.size(connection, "select repeat('x', 1000) from generate_series(1, 8000)"));
    }
    System.out.println(Jdbc.refusal(args[1]));
    System.out.println(Jdbc.together(args[0], 4, "select pg_backend_pid()") + " at the same time");
    System.out.println(
        Jdbc.cancelled(
            args[0],
            "select pg_sleep(600)",
            "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)'"
                + " and wait_event = 'PgSleep'"));
  }
}

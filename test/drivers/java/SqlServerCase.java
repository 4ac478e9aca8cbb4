import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** Arguments: the URL, one with a wrong password, one with MultiSubnetFailover. */
final class SqlServerCase {
  private SqlServerCase() {}

  private static final String ENCRYPTED =
      "select encrypt_option from sys.dm_exec_connections where session_id = @@spid";

  public static void main(String[] args) throws Exception {
    try (Connection connection = DriverManager.getConnection(args[0])) {
      System.out.println(Jdbc.one(connection, ENCRYPTED));
      try (PreparedStatement prepared = connection.prepareStatement("select ? as n, ? as word")) {
        prepared.setInt(1, 42);
        prepared.setString(2, "grüß Gott");
        try (ResultSet rows = prepared.executeQuery()) {
          rows.next();
          System.out.println(rows.getInt("n") + " " + rows.getString("word"));
        }
      }
      System.out.println(Jdbc.size(connection, "select id, line from lines"));
      System.out.println(cancelled(connection));
    }
    System.out.println(Jdbc.refusal(args[1]));
    System.out.println(Jdbc.together(args[0], 4, "select @@spid as session_id") + " at the same time");
    try (Connection connection = DriverManager.getConnection(args[2])) {
      System.out.println("MultiSubnetFailover " + Jdbc.one(connection, ENCRYPTED));
    }
  }

  /** Gives up within the rows of a statement without end, which takes an attention. */
  private static String cancelled(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("select value from generate_series(1, 2147483647)")) {
      rows.next();
      statement.cancel();
      while (rows.next()) {}
      return "not cancelled";
    } catch (SQLException error) {
      return error.getSQLState() + " " + error.getMessage() + " Then "
          + Jdbc.one(connection, "select 6 * 7 as answer, greeting from greetings");
    }
  }
}

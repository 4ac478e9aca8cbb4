import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;

/** Arguments: the URL; one with a wrong password, one of an unknown service, one that is redirected to an address. */
final class OracleCase {
  private OracleCase() {}

  private static final String NAMES = "select name from orders";

  public static void main(String[] args) throws Exception {
    try (Connection connection = DriverManager.getConnection(args[0])) {
      try (Statement statement = connection.createStatement(); ResultSet names = statement.executeQuery(NAMES)) {
        while (names.next()) System.out.println(names.getString("NAME"));
      }
      System.out.println(Jdbc.size(connection, "select text from documents"));
    }
    if (args.length == 1) return;
    System.out.println(Jdbc.refusal(args[1]));
    System.out.println(Jdbc.refusal(args[2]));
    System.out.println(Jdbc.together(args[0], 4, "select sid from session") + " at the same time");
    System.out.println(Jdbc.refusal(args[3]));
  }
}

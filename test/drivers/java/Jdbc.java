import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** What each program does with its database, by JDBC alone. */
final class Jdbc {
  private Jdbc() {}

  /** The only value of the only row. */
  static String one(Connection connection, String query) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(query)) {
      rows.next();
      return rows.getString(1);
    }
  }

  /** Reads row after row; `ROWS rows, CHARACTERS characters` of the last column. */
  static String size(Connection connection, String query) throws SQLException {
    long rows = 0;
    long characters = 0;
    try (Statement statement = connection.createStatement()) {
      statement.setFetchSize(1000);
      try (ResultSet found = statement.executeQuery(query)) {
        int last = found.getMetaData().getColumnCount();
        for (; found.next(); rows++) characters += found.getString(last).length();
      }
    }
    return rows + " rows, " + characters + " characters";
  }

  /** What the driver says when it does not get in, in its first line. */
  static String refusal(String url) {
    try {
      DriverManager.getConnection(url).close();
      return "let in";
    } catch (SQLException error) {
      return error.getErrorCode() + " " + error.getSQLState() + " " + error.getMessage().lines().findFirst().get();
    }
  }

  /** Connections that are open at the same time, each asked by a thread of its own; how many different answers came. */
  static int together(String url, int connections, String query) throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(connections);
    CyclicBarrier allAreIn = new CyclicBarrier(connections);
    try {
      List<Future<String>> answers = new ArrayList<>();
      for (int n = 0; n < connections; n++) {
        answers.add(
            threads.submit(
                () -> {
                  try (Connection connection = DriverManager.getConnection(url)) {
                    String answer = one(connection, query);
                    allAreIn.await();
                    return answer;
                  }
                }));
      }
      HashSet<String> different = new HashSet<>();
      for (Future<String> answer : answers) different.add(answer.get());
      return different.size();
    } finally {
      threads.shutdownNow();
    }
  }

  /** What a statement says that another thread cancels as soon as `isRunning` counts it. */
  static String cancelled(String url, String sleep, String isRunning) throws Exception {
    ExecutorService thread = Executors.newSingleThreadExecutor();
    try (Connection connection = DriverManager.getConnection(url);
        Connection watching = DriverManager.getConnection(url);
        Statement statement = connection.createStatement()) {
      Future<String> end =
          thread.submit(
              () -> {
                try {
                  statement.execute(sleep);
                  return "ran to its end";
                } catch (SQLException error) {
                  return error.getSQLState() + " " + error.getMessage();
                }
              });
      while (!one(watching, isRunning).equals("1")) Thread.sleep(20);
      statement.cancel();
      return end.get() + ", then " + one(connection, "select 6 * 7");
    } finally {
      thread.shutdownNow();
    }
  }
}

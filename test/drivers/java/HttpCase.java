import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Arguments: URLs. Each is asked for twice by a client of HTTP/1.1 and by one of HTTP/2. */
final class HttpCase {
  private HttpCase() {}

  public static void main(String[] args) throws Exception {
    for (HttpClient.Version version : HttpClient.Version.values()) {
      HttpClient client = HttpClient.newBuilder().version(version).build();
      for (String url : args) {
        for (int n = 0; n < 2; n++) {
          var answer = client.send(HttpRequest.newBuilder(URI.create(url)).build(), BodyHandlers.ofString());
          System.out.print(
              answer.version() + " " + answer.statusCode() + " " + answer.body());
        }
      }
    }
  }
}

// GET URL with the key, with Java's own clients and with two of the libraries that are used most.
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Clients {
    public static void main(String[] arguments) throws Exception {
        String url = System.getenv("URL") + "/v1", key = System.getenv("KEY");
        switch (arguments[0]) {
            case "http" -> HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build().send(
                HttpRequest.newBuilder(URI.create(url)).header("Authorization", "Bearer " + key).build(),
                HttpResponse.BodyHandlers.ofString());
            case "connection" -> {
                HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
                connection.setRequestProperty("X-API-Key", key);
                connection.getResponseCode();
            }
            case "okhttp" -> new okhttp3.OkHttpClient().newCall(new okhttp3.Request.Builder().url(url)
                .header("Authorization", okhttp3.Credentials.basic("api", key)).build()).execute();
            case "apache" -> {
                var get = new org.apache.http.client.methods.HttpGet(url);
                get.setHeader("Authorization", "Bearer " + key);
                org.apache.http.impl.client.HttpClients.createDefault().execute(get);
            }
        }
        System.exit(0);
    }
}

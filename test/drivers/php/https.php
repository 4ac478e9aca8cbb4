<?php
// Arguments: the URL, the authority's certificate.
[, $url, $caFile] = $argv;
foreach ([CURL_HTTP_VERSION_1_1, CURL_HTTP_VERSION_2TLS] as $version) {
    $request = curl_init($url);
    curl_setopt_array($request, [
        CURLOPT_CAINFO => $caFile,
        CURLOPT_HTTP_VERSION => $version,
        CURLOPT_RETURNTRANSFER => true,
    ]);
    $body = curl_exec($request);
    if ($body === false) {
        fwrite(STDERR, curl_error($request) . "\n");
        exit(1);
    }
    $spoken = curl_getinfo($request, CURLINFO_HTTP_VERSION) === CURL_HTTP_VERSION_2_0 ? 'HTTP/2' : 'HTTP/1.1';
    echo $spoken, ' ', curl_getinfo($request, CURLINFO_RESPONSE_CODE), ' ', $body;
}

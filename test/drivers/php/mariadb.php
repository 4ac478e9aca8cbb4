<?php
// Arguments: the DSN, the user, the password, the authority's certificate.
[, $dsn, $user, $password, $caFile] = $argv;
$options = [PDO::MYSQL_ATTR_SSL_CA => $caFile, PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true];
$db = new PDO($dsn, $user, $password, $options);
echo $db->query("show session status like 'Ssl_version'")->fetchColumn(1), "\n";
$prepared = $db->prepare('select repeat(?, 1000) from seq_1_to_2000');
$prepared->execute(['ä']);
$bytes = 0;
while (($text = $prepared->fetchColumn()) !== false) $bytes += strlen($text);
echo $bytes, "\n";
try {
    new PDO($dsn, $user, 'wrong', $options);
    echo "let in\n";
} catch (PDOException $error) {
    echo $error->getMessage(), "\n";
}

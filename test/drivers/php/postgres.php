<?php
// Arguments: the DSN, the user, the password.
[, $dsn, $user, $password] = $argv;
$db = new PDO($dsn, $user, $password);
$row = $db->query('select ssl::text, version from pg_stat_ssl where pid = pg_backend_pid()')->fetch(PDO::FETCH_NUM);
echo $row[0], ' ', $row[1], "\n";
$prepared = $db->prepare("select repeat(?, 1000) from generate_series(1, 2000)");
$prepared->execute(['ä']);
$bytes = 0;
while (($text = $prepared->fetchColumn()) !== false) $bytes += strlen($text);
echo $bytes, "\n";
try {
    new PDO($dsn, $user, 'wrong');
    echo "let in\n";
} catch (PDOException $error) {
    echo $error->getMessage(), "\n";
}

<?php
// Arguments: the DSN, the user, the password.
[, $dsn, $user, $password] = $argv;
$db = new PDO($dsn, $user, $password);
$ask = fn(string $query) => $db->query($query)->fetchColumn();
echo $ask('select encrypt_option from sys.dm_exec_connections where session_id = @@spid'), "\n";
echo implode(' ', $db->query('select 6 * 7 as answer, greeting from greetings')->fetch(PDO::FETCH_NUM)), "\n";
$bytes = 0;
foreach ($db->query('select id, line from lines') as $row) $bytes += strlen($row['line']);
echo $bytes, "\n";
try {
    $ask('select 1 / 0');
} catch (PDOException $error) {
    echo $error->getMessage(), "\n";
}
try {
    new PDO($dsn, $user, 'wrong');
    echo "let in\n";
} catch (PDOException $error) {
    echo $error->getMessage(), "\n";
}

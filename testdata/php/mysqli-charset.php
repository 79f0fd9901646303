<?php
// Character sets: of the connection, of literals, of results.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS cs', 'CREATE TABLE cs (id INT AUTO_INCREMENT PRIMARY KEY, u VARCHAR(50) CHARACTER SET utf8mb4, l VARCHAR(50) CHARACTER SET latin2, b VARBINARY(50), how VARCHAR(20) CHARACTER SET ascii)');
$all = 'SELECT @@character_set_client, @@character_set_connection, @@character_set_results, @@collation_connection, @@character_set_database';
run($m, $all);
run($m, 'SHOW VARIABLES LIKE "character_set_c%"');

foreach (['utf8mb4', 'utf8mb3', 'latin1', 'latin2', 'cp1250', 'binary', 'ascii', 'gbk', 'sjis'] as $charset) {
    title($charset);
    show('set_charset', $m->set_charset($charset));
    run($m, $all);
    $text = $charset === 'ascii' || $charset === 'binary' ? 'plain' : @iconv('UTF-8', strtr($charset, ['utf8mb4' => 'UTF-8', 'utf8mb3' => 'UTF-8', 'latin1' => 'ISO-8859-1', 'latin2' => 'ISO-8859-2', 'cp1250' => 'CP1250', 'gbk' => 'GBK', 'sjis' => 'SJIS']) . '//IGNORE', in_array($charset, ['gbk', 'sjis'], true) ? '漢字' : 'žluť éß');
    $escaped = $m->real_escape_string($text . "'\"\\\n\0");
    show('escaped', $escaped);
    show('insert', $m->query("INSERT INTO cs (u, l, b, how) VALUES ('$escaped', '" . $m->real_escape_string('abc') . "', '$escaped', '$charset')"));
    echo after($m), "\n";
    $s = $m->prepare("INSERT INTO cs (u, b, how) VALUES (?, ?, 'prepared')");
    show('prepared', $s->execute([$text, $text]));
    run($m, "SELECT u, HEX(u), l, b FROM cs WHERE how = '$charset'");
}

title('SET NAMES and its relatives');
foreach (['SET NAMES utf8mb4', 'SET NAMES utf8mb4 COLLATE utf8mb4_bin', "SET NAMES 'latin2'", 'SET CHARACTER SET latin1', 'SET CHARSET utf8mb4', 'SET character_set_results = NULL', 'SET character_set_client = latin1, character_set_connection = utf8mb4', 'SET NAMES DEFAULT', 'SET CHARACTER SET DEFAULT',
    'SET collation_connection = "utf8mb4_czech_ci"', 'SET NAMES nonsense', 'SET NAMES utf8mb4 COLLATE latin1_bin', 'SET NAMES utf16'] as $sql) {
    run($m, $sql);
    run($m, $all);
    run($m, "SELECT 'a' = 'A', COLLATION('x'), HEX('é')");
    run($m, 'SELECT HEX(u), u FROM cs WHERE how = "utf8mb4"');
}

title('introducers and comparison');
$m->set_charset('utf8mb4');
foreach (["SELECT _latin1'é', HEX(_utf8mb4'é'), N'ž'", "SELECT 'é' COLLATE utf8mb4_bin = 'e', 'é' COLLATE utf8mb4_general_ci = 'e'", "SELECT CONVERT('ž' USING latin2)", 'SELECT LENGTH("🐎"), CHAR_LENGTH("🐎")', "SELECT id FROM cs WHERE u = 'ŽLUŤ ÉSS'",
    "SELECT u FROM cs WHERE l = 'žluť'", "SELECT DISTINCT how FROM cs WHERE how LIKE 'l%' ORDER BY how"] as $sql) {
    run($m, $sql);
}

title('escaping without backslashes');
run($m, "SET sql_mode = 'NO_BACKSLASH_ESCAPES'");
show('escaped', $m->real_escape_string("it's a \\ back"));
run($m, "SELECT 'it''s a \\ back', '\\'");
run($m, "SET sql_mode = DEFAULT");
show('escaped', $m->real_escape_string("it's a \\ back"));

title('a connection keeps its own');
$n = connect();
$n->set_charset('latin2');
for ($i = 0; $i < 5; $i++) {
    show('utf8mb4', bin2hex($m->query("SELECT u FROM cs WHERE how = 'latin2'")->fetch_column()));
    show('latin2', bin2hex($n->query("SELECT u FROM cs WHERE how = 'latin2' LOCK IN SHARE MODE")->fetch_column()));
}
scene($m, 'DROP TABLE cs');

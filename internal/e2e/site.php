<?php
// A page that says which node made it, and what its database has; a POST writes first.
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
try {
  $db = new mysqli(getenv('FARMHAND_DB_HOST'), 'app', trim(file_get_contents(__DIR__ . '/../password')), 'app', (int) getenv('FARMHAND_DB_PORT'));
  if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $db->query('INSERT INTO visits (node) VALUES ("' . $_SERVER['SERVER_ADDR'] . '")');
  }
  $visits = $db->query('SELECT COUNT(*) FROM visits')->fetch_row()[0];
  header('X-Node: ' . $_SERVER['SERVER_ADDR']);
  echo "$visits visits, {$_SERVER['REMOTE_ADDR']}";
} catch (mysqli_sql_exception $e) {
  http_response_code(500);
  echo $e->getMessage();
}

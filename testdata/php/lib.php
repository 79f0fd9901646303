<?php
// What the scripts share: how to connect, and how to print so that two runs can
// be compared line by line. A script reads only on the connection that wrote:
// what another one reads while replicas are late is not promised. The test sets the environment:
//
//   DB_HOST, DB_PORT   where to connect by TCP, or
//   DB_SOCKET          by unix socket
//   DB_USER, DB_PASSWORD, DB_SCHEMA
//   DB_OTHER_CA        an authority that signed no server's certificate
declare(strict_types=1);

mysqli_report(MYSQLI_REPORT_OFF);
ini_set('memory_limit', '512M');
set_error_handler(function (int $level, string $message): bool {
    echo 'PHP says: ', $message, "\n";
    return true;
});
set_exception_handler(function (Throwable $e): void {
    echo 'UNCAUGHT ', get_class($e), ' ', $e->getMessage(), ' at line ', $e->getLine(), "\n";
    exit(1);
});

function where(): array
{
    $socket = getenv('DB_SOCKET') ?: null;
    return $socket === null
        ? [getenv('DB_HOST'), (int) getenv('DB_PORT'), null]
        : ['localhost', 0, $socket];
}

// A connection by mysqli. prefix 'p:' asks for a persistent one; before is
// called with the object that is not connected yet.
function connect(int $flags = 0, string $prefix = '', ?callable $before = null, ?string $user = null, ?string $password = null, ?string $schema = null): mysqli
{
    [$host, $port, $socket] = where();
    $m = mysqli_init();
    if ($before !== null) {
        $before($m);
    }
    $ok = $m->real_connect($prefix . $host, $user ?? getenv('DB_USER'), $password ?? getenv('DB_PASSWORD'),
        $schema ?? getenv('DB_SCHEMA'), $port, $socket, $flags);
    if (!$ok) {
        echo 'not connected: ', mysqli_connect_errno(), ' ', mysqli_connect_error(), "\n";
    }
    return $m;
}

function dsn(string $more = ''): string
{
    [$host, $port, $socket] = where();
    $place = $socket === null ? "host=$host;port=$port" : "unix_socket=$socket";
    return "mysql:$place;dbname=" . getenv('DB_SCHEMA') . $more;
}

function pdo(array $options = [], string $more = ''): PDO
{
    return new PDO(dsn($more), getenv('DB_USER'), getenv('DB_PASSWORD'), $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

// One line that shows a value with its type, and no byte that a terminal or a
// comparison would stumble over.
function text(mixed $value): string
{
    if (is_string($value)) {
        if (strlen($value) > 400) {
            return sprintf('string(%d) %s', strlen($value), md5($value));
        }
        return "'" . (preg_match('/^[^\x00-\x1f\x7f]*$/Du', $value)
            ? $value : '0x' . bin2hex($value)) . "'";
    }
    if (is_array($value)) {
        $parts = [];
        foreach ($value as $key => $item) {
            $parts[] = array_is_list($value) ? text($item) : "$key: " . text($item);
        }
        return '[' . implode(', ', $parts) . ']';
    }
    if (is_object($value)) {
        return get_class($value) . text(get_object_vars($value));
    }
    return var_export($value, true);
}

function show(string $label, mixed $value): void
{
    echo $label, ' = ', text($value), "\n";
}

function title(string $title): void
{
    echo "\n== $title\n";
}

// What mysqli knows of the last statement.
function after(mysqli $m): string
{
    return sprintf('affected %s, id %s, warnings %d, fields %d, info %s, %s',
        $m->affected_rows, $m->insert_id, $m->warning_count, $m->field_count, text($m->info),
        $m->errno === 0 ? $m->sqlstate : "error $m->errno ($m->sqlstate) $m->error");
}

// Runs a statement and prints all that can be known of it.
function run(mysqli $m, string $sql, int $mode = MYSQLI_STORE_RESULT): void
{
    echo '> ', strlen($sql) > 200 ? substr($sql, 0, 60) . '… ' . strlen($sql) . ' bytes' : $sql, "\n";
    $result = $m->query($sql, $mode);
    if ($result instanceof mysqli_result) {
        show('  columns', array_map(fn ($f) => "$f->table.$f->name", $result->fetch_fields()));
        while ($row = $result->fetch_row()) {
            echo '  ', text($row), "\n";
        }
        show('  rows', $result->num_rows);
        $result->free();
    }
    echo '  ', after($m), "\n";
    if ($m->errno === 0 && $m->warning_count > 0) {
        warnings($m);
    }
}

function warnings(mysqli $m): void
{
    $result = $m->query('SHOW WARNINGS');
    while ($row = $result->fetch_row()) {
        echo '  warning ', text($row), "\n";
    }
}

// Runs statements that only prepare a scene.
function scene(mysqli|PDO $db, string ...$statements): void
{
    foreach ($statements as $sql) {
        $ok = $db instanceof PDO ? $db->exec($sql) : $db->query($sql);
        if ($ok === false) {
            echo 'SCENE FAILED ', $sql, ': ', str_replace("\n", ' ', $db instanceof PDO ? text($db->errorInfo()) : $db->error), "\n";
        }
    }
}

// Prints what a call returns, or the error it throws.
function attempt(string $label, callable $call): void
{
    try {
        show($label, $call());
    } catch (mysqli_sql_exception $e) {
        show($label, ['mysqli', $e->getCode(), $e->getSqlState(), $e->getMessage()]);
    } catch (PDOException $e) {
        show($label, ['PDO', $e->getCode(), $e->errorInfo, $e->getMessage()]);
    } catch (Throwable $e) {
        show($label, [get_class($e), $e->getMessage()]);
    }
}

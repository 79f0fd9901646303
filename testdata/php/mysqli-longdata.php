<?php
// Large values: sent in pieces, in statements, and read back.
require __DIR__ . '/lib.php';
$m = connect();
scene($m, 'DROP TABLE IF EXISTS big', 'CREATE TABLE big (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB, s VARCHAR(10))');
$megabyte = '';
for ($i = 0; $i < 4096; $i++) {
    $megabyte .= md5("piece $i", true) . str_repeat(chr($i % 256), 240);
}

title('send_long_data, 20 MB');
show('the server allows it', $m->query('SELECT @@max_allowed_packet >= 16777216')->fetch_column());
$s = $m->prepare('INSERT INTO big (b, s) VALUES (?, ?)');
$null = null;
$name = 'long';
$s->bind_param('bs', $null, $name);
for ($i = 0; $i < 14; $i++) {
    $s->send_long_data(0, $megabyte);
}
show('execute 14 MB', $s->execute());
show('affected, id', [$s->affected_rows, $s->insert_id]);
for ($i = 0; $i < 20; $i++) {
    $s->send_long_data(0, $megabyte);
}
show('execute 20 MB', $s->execute());
show('error', [$s->errno, $s->sqlstate, $s->error]);
show('execute without data', $s->execute());
show('affected, id', [$s->affected_rows, $s->insert_id]);
$s->send_long_data(0, 'forgotten');
show('reset', $s->reset());
$s->send_long_data(0, 'kept');
show('execute', $s->execute());
show('long data for no parameter', @$s->send_long_data(0, 'x'));
$s->close();
run($m, 'SELECT id, LENGTH(b), MD5(b), s FROM big ORDER BY id');

title('in the text of a statement');
$plain = str_repeat(bin2hex(substr($megabyte, 0, 1 << 19)), 17);
foreach ([1000, 65536, 1 << 20, 16777190, 16777195] as $size) {
    $value = substr($plain, 0, $size);
    show("insert $size", $m->query("INSERT INTO big (b) VALUES ('$value')"));
    echo '  ', after($m), "\n";
    if ($m->errno === 0) {
        show('  same', md5($value) === $m->query("SELECT MD5(b) FROM big WHERE id = $m->insert_id")->fetch_column());
    } elseif ($m->errno === 2006 || $m->errno === 2013) {
        $m = connect();
    }
}

title('read back, stored and unbuffered, in both protocols');
foreach ([MYSQLI_STORE_RESULT, MYSQLI_USE_RESULT] as $mode) {
    $r = $m->query('SELECT b FROM big WHERE b IS NOT NULL ORDER BY id', $mode);
    while ($row = $r->fetch_row()) {
        show('row', $row[0]);
    }
    $r->free();
}
$s = $m->prepare('SELECT b FROM big WHERE b IS NOT NULL ORDER BY id');
$s->execute();
foreach ($s->get_result() as $row) {
    show('row', $row['b']);
}

title('around the size of a packet');
foreach ([16777206, 16777207, 16777208, 16777211, 16777215, 33554426] as $size) {
    foreach ($size % 2 ? [MYSQLI_STORE_RESULT] : [MYSQLI_USE_RESULT] as $mode) {
        $r = $m->query("SELECT REPEAT('z', $size), 'end'", $mode);
        if ($r === false) {
            echo after($m), "\n";
            continue;
        }
        $row = $r->fetch_row();
        show((string) $size, $row === null ? null : [$row[0] === null ? null : strlen($row[0]), $row[1]]);
        $r->free();
        echo after($m), "\n";
    }
}
run($m, "SELECT 'still here'");
scene($m, 'DROP TABLE big');

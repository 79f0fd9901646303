<?php
// LOAD DATA LOCAL INFILE.
require __DIR__ . '/lib.php';
ini_set('mysqli.allow_local_infile', '1');
$m = connect(before: fn ($m) => $m->options(MYSQLI_OPT_LOCAL_INFILE, 1));
scene($m, 'DROP TABLE IF EXISTS li', 'CREATE TABLE li (id INT PRIMARY KEY, s VARCHAR(40)) CHARACTER SET utf8mb4');
$dir = sys_get_temp_dir() . '/farmhand-php-' . getmypid();
mkdir($dir);
function write(string $name, string $content): string
{
    global $dir;
    file_put_contents("$dir/$name", $content);
    return "$dir/$name";
}
function load(mysqli $m, string $file, string $more = ''): void
{
    echo '> LOAD DATA LOCAL INFILE ', basename($file), " $more\n";
    show('  result', $m->query("LOAD DATA LOCAL INFILE '$file' INTO TABLE li FIELDS TERMINATED BY ',' $more"));
    echo '  ', preg_replace('~/\S*/~', '', after($m)), "\n";
    if ($m->errno === 0 && $m->warning_count) {
        warnings($m);
    }
}

title('loading');
load($m, write('small', "1,one\n2,two\n"));
run($m, 'SELECT * FROM li ORDER BY id');
load($m, write('empty', ''));
load($m, write('odd', "1,again\nx,y\n3,ž\n4\n"));
run($m, 'SELECT * FROM li ORDER BY id');
load($m, write('big', implode("\n", array_map(fn ($i) => "$i,row $i with some more text", range(100, 200000)))));
run($m, 'SELECT COUNT(*), SUM(id) FROM li');
load($m, "$dir/not there");
run($m, "SELECT 'still here'");
load($m, write('more', "300001,x\n"), 'LINES TERMINATED BY "\n" (id, s) SET s = CONCAT(s, "!")');
run($m, 'SELECT s FROM li WHERE id = 300001');

title('into what is not there');
show('result', $m->query("LOAD DATA LOCAL INFILE '$dir/small' INTO TABLE nope"));
echo after($m), "\n";
run($m, 'SELECT 1');

title('in a transaction');
$m->begin_transaction();
load($m, write('again', "400001,a\n400002,b\n"));
run($m, 'SELECT COUNT(*) FROM li WHERE id > 400000');
$m->rollback();
run($m, 'SELECT COUNT(*) FROM li WHERE id > 400000');

title('not allowed by the client');
ini_set('mysqli.allow_local_infile', '0');
$n = connect(before: fn ($m) => $m->options(MYSQLI_OPT_LOCAL_INFILE, 0));
show('result', $n->query("LOAD DATA LOCAL INFILE '$dir/small' REPLACE INTO TABLE li FIELDS TERMINATED BY ','"));
echo after($n), "\n";
run($n, 'SELECT 1');

title('PDO');
$p = pdo([PDO::MYSQL_ATTR_LOCAL_INFILE => true]);
attempt('load', fn () => $p->exec("LOAD DATA LOCAL INFILE '$dir/small' REPLACE INTO TABLE li FIELDS TERMINATED BY ','"));
show('rows', $p->query('SELECT COUNT(*) FROM li')->fetchColumn());
array_map('unlink', glob("$dir/*"));
rmdir($dir);
scene($m, 'DROP TABLE li');

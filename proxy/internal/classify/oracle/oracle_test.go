package oracle

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pingcap/tidb/pkg/parser"
	"github.com/pingcap/tidb/pkg/parser/ast"
	"github.com/pingcap/tidb/pkg/parser/mysql"
	_ "github.com/pingcap/tidb/pkg/parser/test_driver" // the values of literals

	"farmhand/proxy/internal/classify"
)

// oracle is a parser for one mode. It is not safe for concurrent use.
type oracle struct {
	parser *parser.Parser
	mode   classify.Mode
}

func newOracle(m classify.Mode) *oracle {
	p := parser.New()
	p.EnableWindowFunc(true)
	p.SetMariaDB(m.MariaDB)
	var sqlMode mysql.SQLMode
	if m.ANSIQuotes {
		sqlMode |= mysql.ModeANSIQuotes
	}
	if m.NoBackslashEscapes {
		sqlMode |= mysql.ModeNoBackslashEscapes
	}
	if m.IgnoreSpace {
		sqlMode |= mysql.ModeIgnoreSpace
	}
	p.SetSQLMode(sqlMode)
	return &oracle{p, m}
}

// judge parses text and says why it is not a pure read; "" if it is one.
// ok is false for a text that the parser does not accept.
func (o *oracle) judge(text string) (objection string, ok bool) {
	defer func() {
		if recover() != nil { // the parser panics over numbers that are out of place
			*o = *newOracle(o.mode)
			objection, ok = "", false
		}
	}()
	statements, _, err := o.parser.Parse(text, "", "")
	if err != nil {
		return "", false
	}
	if pointNumber.MatchString(text) && digitCall.MatchString(text) {
		return foreign, true
	}
	for _, s := range statements {
		if o := objectTo(s); o != "" && (objection == "" || objection == foreign) {
			objection = o
		}
	}
	return objection, true
}

// To the servers a point behind white space and before a digit begins a
// number, and white space behind a point ends the name; to the parser "a .1("
// and "a. 0x1(" are calls of functions 1 and 0x1. The servers refuse both.
const gap = `(\s|/\*[^*]*\*+/|--[^\n]*\n|#[^\n]*\n)`

var (
	pointNumber = regexp.MustCompile(gap + `\.\d|\*/\.\d|\.` + gap)
	digitCall   = regexp.MustCompile(`\.` + gap + `*\d\w*` + gap + `*\(`)
)

// foreign is said of statements of TiDB's own, which the servers refuse.
const foreign = "is TiDB's own"

// objectTo says why a statement is not a pure read.
func objectTo(s ast.StmtNode) string {
	switch s := s.(type) {
	case *ast.SelectStmt, *ast.SetOprStmt:
		return walk(s)
	case *ast.ExplainForStmt:
		return "explains a connection's statement"
	case *ast.ExplainStmt:
		if _, show := s.Stmt.(*ast.ShowStmt); show { // DESCRIBE table
			return objectTo(s.Stmt)
		}
		if s.Stmt == nil || s.Explore || s.SQLDigest != "" || s.PlanDigest != "" {
			return foreign
		}
		switch s.Stmt.(type) {
		case *ast.InsertStmt, *ast.UpdateStmt, *ast.DeleteStmt:
			return "explains a write, which a read-only server refuses"
		}
		return objectTo(s.Stmt)
	case *ast.ShowStmt:
		switch why, known := shows[s.Tp]; {
		case !known:
			return foreign
		case why != "":
			return "SHOW: " + why
		}
		if s.GlobalScope && s.Tp != ast.ShowVariables {
			return "SHOW GLOBAL"
		}
		return walk(s)
	case *ast.HelpStmt:
		return ""
	}
	return fmt.Sprintf("%T", s)
}

// shows are the kinds of SHOW with the reason why one is not a read of what
// every server has alike. A kind that is not here is TiDB's own.
var shows = map[ast.ShowStmtType]string{
	ast.ShowEngines: "", ast.ShowDatabases: "", ast.ShowTables: "", ast.ShowTableStatus: "", ast.ShowColumns: "",
	ast.ShowCharset: "", ast.ShowVariables: "", ast.ShowCollation: "", ast.ShowCreateTable: "", ast.ShowCreateView: "",
	ast.ShowCreateUser: "", ast.ShowCreateSequence: "", ast.ShowGrants: "", ast.ShowTriggers: "", ast.ShowProcedureStatus: "",
	ast.ShowFunctionStatus: "", ast.ShowIndex: "", ast.ShowCreateDatabase: "", ast.ShowEvents: "", ast.ShowPrivileges: "",
	ast.ShowCreateProcedure: "",
	ast.ShowWarnings:        "asks about the statement before", ast.ShowErrors: "asks about the statement before",
	ast.ShowStatus: "one server's", ast.ShowProcessList: "one server's", ast.ShowPlugins: "one server's",
	ast.ShowMasterStatus: "one server's", ast.ShowBinlogStatus: "one server's", ast.ShowReplicaStatus: "one server's",
	ast.ShowOpenTables: "one server's", ast.ShowProfile: "one connection's", ast.ShowProfiles: "one connection's",
}

// walk says what in a query makes it more than a read.
func walk(n ast.Node) string {
	v := &visitor{}
	n.Accept(v)
	return v.objection
}

// visitor looks for the first thing that a pure read has not.
type visitor struct {
	objection string
}

func (v *visitor) object(format string, args ...any) {
	if v.objection == "" {
		v.objection = fmt.Sprintf(format, args...)
	}
}

// Enter implements ast.Visitor.
func (v *visitor) Enter(n ast.Node) (ast.Node, bool) {
	switch n := n.(type) {
	case *ast.SelectStmt:
		if n.LockInfo != nil && n.LockInfo.LockType != ast.SelectLockNone {
			v.object("locks: %v", n.LockInfo.LockType)
		}
		if n.SelectIntoOpt != nil {
			v.object("SELECT … INTO")
		}
	case *ast.VariableExpr:
		if n.Value != nil {
			v.object("assigns @%s", n.Name)
		}
		if strings.EqualFold(n.Name, "last_insert_id") || strings.EqualFold(n.Name, "identity") {
			if n.IsSystem {
				v.object("asks for the last insert id")
			}
		}
	case *ast.FuncCallExpr:
		if why := objectToCall(n); why != "" {
			v.object("%s", why)
		}
	case *ast.SetOprStmt, *ast.ShowStmt:
	case ast.StmtNode:
		v.object("%T within", n)
	}
	return n, v.objection != ""
}

// Leave implements ast.Visitor.
func (v *visitor) Leave(n ast.Node) (ast.Node, bool) { return n, true }

// objectToCall says why a call may be more than a computation.
func objectToCall(f *ast.FuncCallExpr) string {
	if f.Schema.L != "" {
		return "calls " + f.Schema.O + "." + f.FnName.O
	}
	name := strings.TrimPrefix(f.FnName.L, "'tidb`.(")
	if why, listed := effects[name]; listed {
		return name + "() " + why
	}
	if name == "tidb_current_tso" && len(f.Args) == 0 {
		return "" // a column's name to the servers, if no parentheses are behind it
	}
	if !pure[name] {
		return "calls " + f.FnName.O + "(), which is not known"
	}
	return ""
}

// effects are built-in functions that do more than compute a value from their
// arguments and the tables, or compute it from the server or connection.
var effects = map[string]string{
	"get_lock": "takes a lock", "release_lock": "releases a lock", "release_all_locks": "releases locks",
	"is_free_lock": "asks about one server's lock", "is_used_lock": "asks about one server's lock",
	"sleep": "waits", "benchmark": "waits",
	"master_pos_wait": "waits", "source_pos_wait": "waits", "master_gtid_wait": "waits",
	"wait_for_executed_gtid_set": "waits", "wait_until_sql_thread_after_gtids": "waits",
	"nextval": "moves a sequence", "setval": "moves a sequence", "lastval": "asks about one connection's sequence",
	"last_insert_id": "asks for or sets the last insert id", "row_count": "asks about the statement before",
	"found_rows": "asks about the statement before",
	"load_file":  "reads one server's file", "uuid_short": "is numbered by server",
	"sys_exec": "runs a program", "sys_eval": "runs a program",
}

// pure are the names of built-in functions that compute and do nothing else:
// those which the parser knows, without TiDB's own, and those of MySQL's and
// MariaDB's reference manuals that TiDB has not.
var pure = func() map[string]bool {
	names := map[string]bool{}
	for _, name := range strings.Fields(pureNames) {
		names[name] = true
	}
	return names
}()

const pureNames = `
and cast leftshift rightshift or ge le eq ne lt gt plus minus bitand bitor mod bitxor div mul not bitneg intdiv xor
nulleq unaryplus unaryminus in like case regexp regexp_like regexp_substr regexp_instr regexp_replace isnull istrue
isfalse row values bit_count coalesce greatest least interval abs acos asin atan atan2 ceil ceiling conv
cos cot crc32 degrees exp floor ln log log2 log10 pi pow power radians rand round sign sin sqrt tan truncate adddate
addtime convert_tz curdate current_date current_time current_timestamp curtime date dateliteral date_add date_format
date_sub datediff day dayname dayofmonth dayofweek dayofyear extract from_days from_unixtime get_format hour localtime
localtimestamp makedate maketime microsecond minute month monthname now period_add period_diff quarter sec_to_time
second str_to_date subdate subtime sysdate time timeliteral time_format time_to_sec timediff timestamp timestampliteral
timestampadd timestampdiff to_days to_seconds unix_timestamp utc_date utc_time utc_timestamp week weekday weekofyear
year yearweek last_day ascii bin concat concat_ws convert elt export_set field format from_base64 insert_func instr
lcase left length locate lower lpad ltrim make_set mid oct octet_length ord position quote repeat replace reverse right
rtrim space strcmp substring substr substring_index to_base64 trim upper ucase hex unhex rpad bit_length char_func
char_length character_length find_in_set weight_string soundex charset coercibility collation connection_id current_user
current_role database schema session_user system_user user version format_bytes if ifnull nullif any_value default_func
inet_aton inet_ntoa inet6_aton inet6_ntoa is_ipv4 is_ipv4_compat is_ipv4_mapped is_ipv6 is_uuid name_const uuid
uuid_to_bin bin_to_uuid grouping aes_decrypt aes_encrypt compress decode encode md5 password random_bytes sha1 sha sha2
uncompress uncompressed_length validate_password_strength json_type json_extract json_unquote json_array json_object
json_merge json_set json_insert json_replace json_remove json_overlaps json_contains json_memberof json_contains_path
json_valid json_array_append json_array_insert json_merge_patch json_merge_preserve json_pretty json_quote
json_schema_valid json_search json_storage_free json_storage_size json_depth json_keys json_length json_value
st_x st_y st_srid st_astext st_geomfromtext st_distance st_contains st_within st_area st_asbinary st_distance_sphere
st_geomfromwkb st_pointfromtext st_intersects st_buffer point linestring polygon mbrcontains
extractvalue updatexml des_encrypt des_decrypt old_password encrypt json_detailed json_exists json_query json_compact
json_loose column_get column_create column_json chr nvl nvl2 to_char natural_sort_key sformat statement_digest
statement_digest_text gtid_subset gtid_subtract char insert mod default value x y
`

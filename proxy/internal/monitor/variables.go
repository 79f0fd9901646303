package monitor

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"farmhand/internal/mysqladmin"
)

// variables are the global variables that a view has of each server: those with
// which new sessions start and that sessions change, and a few that say what
// the server is. A server has only some of them; the names are its own.
var variables = []string{
	"autocommit",
	"character_set_client", "character_set_connection", "character_set_results",
	"character_set_database", "character_set_server", "character_set_collations",
	"collation_connection", "collation_database", "collation_server",
	"completion_type",
	"default_collation_for_utf8mb4",
	"default_storage_engine",
	"div_precision_increment",
	"foreign_key_checks",
	"group_concat_max_len",
	"gtid_domain_id",
	"init_connect",
	"innodb_lock_wait_timeout",
	"interactive_timeout",
	"lc_messages", "lc_time_names",
	"lock_wait_timeout",
	"log_bin",
	"lower_case_table_names",
	"max_allowed_packet",
	"max_connections",
	"max_execution_time", "max_statement_time",
	"max_prepared_stmt_count",
	"net_read_timeout", "net_write_timeout",
	"session_track_gtids", "session_track_schema", "session_track_state_change",
	"session_track_system_variables", "session_track_transaction_info",
	"sql_auto_is_null",
	"sql_big_selects",
	"sql_mode",
	"sql_notes",
	"sql_safe_updates",
	"sql_select_limit",
	"sql_warnings",
	"system_time_zone",
	"thread_pool_size", // of MariaDB: the number of processors, unless it was set
	"time_zone",
	"transaction_isolation", "transaction_read_only",
	"tx_isolation", "tx_read_only",
	"unique_checks",
	"version", "version_comment",
	"wait_timeout",
}

// readVariables asks a server for the variables, by lower-case name. The text
// of their values is that of SHOW VARIABLES: ON and OFF, not 1 and 0.
func readVariables(ctx context.Context, conn *mysqladmin.Conn) (map[string]string, error) {
	rows, err := conn.Query(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(variables, "','")+"')")
	if err != nil {
		return nil, fmt.Errorf("read global variables: %w", err)
	}
	values := make(map[string]string, len(rows))
	for _, row := range rows {
		values[strings.ToLower(row.String("Variable_name"))] = row.String("Value")
	}
	return values, nil
}

// processors is how many processors a server has, as far as it tells.
func processors(variables map[string]string) int {
	const usual = 4
	if n, err := strconv.Atoi(variables["thread_pool_size"]); err == nil && n > 0 {
		return n
	}
	return usual
}

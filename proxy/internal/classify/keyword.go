package classify

// keyword is a word that some rule asks for; 0 is any other word.
type keyword uint8

// The keywords. They need not be reserved: the rules mind the place.
const (
	noKeyword keyword = iota
	kwAggregate
	kwAll
	kwAlter
	kwAnalyze
	kwAnd
	kwAny
	kwAs
	kwAsc
	kwAtomic
	kwBackup
	kwBefore
	kwBegin
	kwBetween
	kwBigint
	kwBinary
	kwBinlog
	kwBlob
	kwBoth
	kwBy
	kwCache
	kwCall
	kwCase
	kwChain
	kwChange
	kwChar
	kwCharacter
	kwCharset
	kwCheck
	kwChecksum
	kwClone
	kwCollate
	kwColumn
	kwColumns
	kwCommit
	kwCommitted
	kwConnection
	kwConsistent
	kwConvert
	kwCreate
	kwCross
	kwCurrval
	kwData
	kwDeallocate
	kwDec
	kwDecimal
	kwDeclare
	kwDefault
	kwDefiner
	kwDelete
	kwDesc
	kwDescribe
	kwDiagnostics
	kwDistinct
	kwDistinctrow
	kwDiv
	kwDo
	kwDouble
	kwDrop
	kwDumpfile
	kwElse
	kwEnd
	kwEscape
	kwEvent
	kwExcept
	kwExecute
	kwExists
	kwExplain
	kwExtended
	kwFalse
	kwFarmhand
	kwFetch
	kwFloat
	kwFlush
	kwFor
	kwFormat
	kwFrom
	kwFull
	kwFunction
	kwGet
	kwGlobal
	kwGrant
	kwGroup
	kwGroupReplication
	kwHandler
	kwHard
	kwHaving
	kwHelp
	kwHighPriority
	kwId
	kwIdentified
	kwIf
	kwIgnore
	kwImmediate
	kwImport
	kwIn
	kwIndex
	kwInfile
	kwInner
	kwInsert
	kwInstall
	kwInstance
	kwInt
	kwInteger
	kwIntersect
	kwInterval
	kwInto
	kwIs
	kwIsolation
	kwIterate
	kwJoin
	kwKey
	kwKeys
	kwKill
	kwLateral
	kwLeading
	kwLeave
	kwLeft
	kwLevel
	kwLike
	kwLimit
	kwLoad
	kwLocal
	kwLock
	kwLocked
	kwLoop
	kwLowPriority
	kwMatch
	kwMediumint
	kwMember
	kwMinus
	kwMod
	kwMode
	kwNames
	kwNatural
	kwNext
	kwNextval
	kwNo
	kwNot
	kwNowait
	kwNull
	kwNumeric
	kwOf
	kwOffset
	kwOn
	kwOnly
	kwOptimize
	kwOr
	kwOrder
	kwOuter
	kwOutfile
	kwOver
	kwPackage
	kwPartition
	kwPartitions
	kwPassword
	kwPersist
	kwPersistOnly
	kwPrepare
	kwPrevious
	kwProcedure
	kwPurge
	kwQuery
	kwQuick
	kwRead
	kwReal
	kwRecursive
	kwRegexp
	kwRelease
	kwRename
	kwRepair
	kwRepeat
	kwRepeatable
	kwReplace
	kwReset
	kwResignal
	kwResource
	kwRestart
	kwReturn
	kwReturning
	kwRevoke
	kwRight
	kwRlike
	kwRole
	kwRollback
	kwRollup
	kwRow
	kwSavepoint
	kwSelect
	kwSeparator
	kwSequence
	kwSerializable
	kwSession
	kwSet
	kwShare
	kwShow
	kwShutdown
	kwSignal
	kwSkip
	kwSmallint
	kwSnapshot
	kwSoft
	kwSome
	kwSqlBigResult
	kwSqlBufferResult
	kwSqlCache
	kwSqlCalcFoundRows
	kwSqlNoCache
	kwSqlSmallResult
	kwStart
	kwStatement
	kwStop
	kwStraightJoin
	kwTable
	kwTables
	kwTemporary
	kwThen
	kwTinyint
	kwTo
	kwTrailing
	kwTransaction
	kwTrigger
	kwTrue
	kwTruncate
	kwUncommitted
	kwUninstall
	kwUnion
	kwUnlock
	kwUpdate
	kwUse
	kwUser
	kwUsing
	kwValue
	kwValues
	kwVarbinary
	kwVarchar
	kwVersioning
	kwView
	kwWhen
	kwWhere
	kwWhile
	kwWindow
	kwWith
	kwWithout
	kwWork
	kwWrite
	kwXa
	kwXml
	kwXor
	keywordCount
)

// keywordRule is one line of the table of keywords.
type keywordRule struct {
	name string
	// group: an opening parenthesis behind the word does not make it a call.
	// Only for words that both servers reserve, so that no stored function
	// can be called by them without quoting.
	group bool
}

var keywords = [keywordCount]keywordRule{
	kwAggregate:        {name: "AGGREGATE"},
	kwAll:              {name: "ALL", group: true},
	kwAlter:            {name: "ALTER"},
	kwAnalyze:          {name: "ANALYZE"},
	kwAnd:              {name: "AND", group: true},
	kwAny:              {name: "ANY"},
	kwAs:               {name: "AS", group: true},
	kwAsc:              {name: "ASC"},
	kwAtomic:           {name: "ATOMIC"},
	kwBackup:           {name: "BACKUP"},
	kwBefore:           {name: "BEFORE"},
	kwBegin:            {name: "BEGIN"},
	kwBetween:          {name: "BETWEEN", group: true},
	kwBigint:           {name: "BIGINT", group: true},
	kwBinary:           {name: "BINARY", group: true},
	kwBinlog:           {name: "BINLOG"},
	kwBlob:             {name: "BLOB", group: true},
	kwBoth:             {name: "BOTH", group: true},
	kwBy:               {name: "BY", group: true},
	kwCache:            {name: "CACHE"},
	kwCall:             {name: "CALL"},
	kwCase:             {name: "CASE", group: true},
	kwChain:            {name: "CHAIN"},
	kwChange:           {name: "CHANGE"},
	kwChar:             {name: "CHAR", group: true},
	kwCharacter:        {name: "CHARACTER", group: true},
	kwCharset:          {name: "CHARSET"},
	kwCheck:            {name: "CHECK"},
	kwChecksum:         {name: "CHECKSUM"},
	kwClone:            {name: "CLONE"},
	kwCollate:          {name: "COLLATE"},
	kwColumn:           {name: "COLUMN"},
	kwColumns:          {name: "COLUMNS"},
	kwCommit:           {name: "COMMIT"},
	kwCommitted:        {name: "COMMITTED"},
	kwConnection:       {name: "CONNECTION"},
	kwConsistent:       {name: "CONSISTENT"},
	kwConvert:          {name: "CONVERT"},
	kwCreate:           {name: "CREATE"},
	kwCross:            {name: "CROSS"},
	kwCurrval:          {name: "CURRVAL"},
	kwData:             {name: "DATA"},
	kwDeallocate:       {name: "DEALLOCATE"},
	kwDec:              {name: "DEC", group: true},
	kwDecimal:          {name: "DECIMAL", group: true},
	kwDeclare:          {name: "DECLARE"},
	kwDefault:          {name: "DEFAULT"},
	kwDefiner:          {name: "DEFINER"},
	kwDelete:           {name: "DELETE"},
	kwDesc:             {name: "DESC"},
	kwDescribe:         {name: "DESCRIBE"},
	kwDiagnostics:      {name: "DIAGNOSTICS"},
	kwDistinct:         {name: "DISTINCT", group: true},
	kwDistinctrow:      {name: "DISTINCTROW", group: true},
	kwDiv:              {name: "DIV", group: true},
	kwDo:               {name: "DO"},
	kwDouble:           {name: "DOUBLE", group: true},
	kwDrop:             {name: "DROP"},
	kwDumpfile:         {name: "DUMPFILE"},
	kwElse:             {name: "ELSE", group: true},
	kwEnd:              {name: "END"},
	kwEscape:           {name: "ESCAPE"},
	kwEvent:            {name: "EVENT"},
	kwExcept:           {name: "EXCEPT", group: true},
	kwExecute:          {name: "EXECUTE"},
	kwExists:           {name: "EXISTS", group: true},
	kwExplain:          {name: "EXPLAIN"},
	kwExtended:         {name: "EXTENDED"},
	kwFalse:            {name: "FALSE"},
	kwFarmhand:         {name: "FARMHAND"},
	kwFetch:            {name: "FETCH"},
	kwFloat:            {name: "FLOAT", group: true},
	kwFlush:            {name: "FLUSH"},
	kwFor:              {name: "FOR"},
	kwFormat:           {name: "FORMAT"},
	kwFrom:             {name: "FROM", group: true},
	kwFull:             {name: "FULL"},
	kwFunction:         {name: "FUNCTION"},
	kwGet:              {name: "GET"},
	kwGlobal:           {name: "GLOBAL"},
	kwGrant:            {name: "GRANT"},
	kwGroup:            {name: "GROUP", group: true},
	kwGroupReplication: {name: "GROUP_REPLICATION"},
	kwHandler:          {name: "HANDLER"},
	kwHard:             {name: "HARD"},
	kwHaving:           {name: "HAVING", group: true},
	kwHelp:             {name: "HELP"},
	kwHighPriority:     {name: "HIGH_PRIORITY", group: true},
	kwId:               {name: "ID"},
	kwIdentified:       {name: "IDENTIFIED"},
	kwIf:               {name: "IF"},
	kwIgnore:           {name: "IGNORE"},
	kwImmediate:        {name: "IMMEDIATE"},
	kwImport:           {name: "IMPORT"},
	kwIn:               {name: "IN", group: true},
	kwIndex:            {name: "INDEX", group: true},
	kwInfile:           {name: "INFILE"},
	kwInner:            {name: "INNER", group: true},
	kwInsert:           {name: "INSERT"},
	kwInstall:          {name: "INSTALL"},
	kwInstance:         {name: "INSTANCE"},
	kwInt:              {name: "INT", group: true},
	kwInteger:          {name: "INTEGER", group: true},
	kwIntersect:        {name: "INTERSECT", group: true},
	kwInterval:         {name: "INTERVAL", group: true},
	kwInto:             {name: "INTO", group: true},
	kwIs:               {name: "IS"},
	kwIsolation:        {name: "ISOLATION"},
	kwIterate:          {name: "ITERATE"},
	kwJoin:             {name: "JOIN", group: true},
	kwKey:              {name: "KEY", group: true},
	kwKeys:             {name: "KEYS"},
	kwKill:             {name: "KILL"},
	kwLateral:          {name: "LATERAL"},
	kwLeading:          {name: "LEADING", group: true},
	kwLeave:            {name: "LEAVE"},
	kwLeft:             {name: "LEFT"},
	kwLevel:            {name: "LEVEL"},
	kwLike:             {name: "LIKE", group: true},
	kwLimit:            {name: "LIMIT", group: true},
	kwLoad:             {name: "LOAD"},
	kwLocal:            {name: "LOCAL"},
	kwLock:             {name: "LOCK"},
	kwLocked:           {name: "LOCKED"},
	kwLoop:             {name: "LOOP"},
	kwLowPriority:      {name: "LOW_PRIORITY"},
	kwMatch:            {name: "MATCH", group: true},
	kwMediumint:        {name: "MEDIUMINT", group: true},
	kwMember:           {name: "MEMBER"},
	kwMinus:            {name: "MINUS"},
	kwMod:              {name: "MOD", group: true},
	kwMode:             {name: "MODE"},
	kwNames:            {name: "NAMES"},
	kwNatural:          {name: "NATURAL"},
	kwNext:             {name: "NEXT"},
	kwNextval:          {name: "NEXTVAL"},
	kwNo:               {name: "NO"},
	kwNot:              {name: "NOT", group: true},
	kwNowait:           {name: "NOWAIT"},
	kwNull:             {name: "NULL"},
	kwNumeric:          {name: "NUMERIC", group: true},
	kwOf:               {name: "OF"},
	kwOffset:           {name: "OFFSET"},
	kwOn:               {name: "ON", group: true},
	kwOnly:             {name: "ONLY"},
	kwOptimize:         {name: "OPTIMIZE"},
	kwOr:               {name: "OR", group: true},
	kwOrder:            {name: "ORDER"},
	kwOuter:            {name: "OUTER"},
	kwOutfile:          {name: "OUTFILE"},
	kwOver:             {name: "OVER", group: true},
	kwPackage:          {name: "PACKAGE"},
	kwPartition:        {name: "PARTITION", group: true},
	kwPartitions:       {name: "PARTITIONS"},
	kwPassword:         {name: "PASSWORD"},
	kwPersist:          {name: "PERSIST"},
	kwPersistOnly:      {name: "PERSIST_ONLY"},
	kwPrepare:          {name: "PREPARE"},
	kwPrevious:         {name: "PREVIOUS"},
	kwProcedure:        {name: "PROCEDURE"},
	kwPurge:            {name: "PURGE"},
	kwQuery:            {name: "QUERY"},
	kwQuick:            {name: "QUICK"},
	kwRead:             {name: "READ"},
	kwReal:             {name: "REAL", group: true},
	kwRecursive:        {name: "RECURSIVE"},
	kwRegexp:           {name: "REGEXP", group: true},
	kwRelease:          {name: "RELEASE"},
	kwRename:           {name: "RENAME"},
	kwRepair:           {name: "REPAIR"},
	kwRepeat:           {name: "REPEAT"},
	kwRepeatable:       {name: "REPEATABLE"},
	kwReplace:          {name: "REPLACE"},
	kwReset:            {name: "RESET"},
	kwResignal:         {name: "RESIGNAL"},
	kwResource:         {name: "RESOURCE"},
	kwRestart:          {name: "RESTART"},
	kwReturn:           {name: "RETURN"},
	kwReturning:        {name: "RETURNING"},
	kwRevoke:           {name: "REVOKE"},
	kwRight:            {name: "RIGHT"},
	kwRlike:            {name: "RLIKE", group: true},
	kwRole:             {name: "ROLE"},
	kwRollback:         {name: "ROLLBACK"},
	kwRollup:           {name: "ROLLUP"},
	kwRow:              {name: "ROW", group: true},
	kwSavepoint:        {name: "SAVEPOINT"},
	kwSelect:           {name: "SELECT", group: true},
	kwSeparator:        {name: "SEPARATOR"},
	kwSequence:         {name: "SEQUENCE"},
	kwSerializable:     {name: "SERIALIZABLE"},
	kwSession:          {name: "SESSION"},
	kwSet:              {name: "SET"},
	kwShare:            {name: "SHARE"},
	kwShow:             {name: "SHOW"},
	kwShutdown:         {name: "SHUTDOWN"},
	kwSignal:           {name: "SIGNAL"},
	kwSkip:             {name: "SKIP"},
	kwSmallint:         {name: "SMALLINT", group: true},
	kwSnapshot:         {name: "SNAPSHOT"},
	kwSoft:             {name: "SOFT"},
	kwSome:             {name: "SOME"},
	kwSqlBigResult:     {name: "SQL_BIG_RESULT", group: true},
	kwSqlBufferResult:  {name: "SQL_BUFFER_RESULT"},
	kwSqlCache:         {name: "SQL_CACHE"},
	kwSqlCalcFoundRows: {name: "SQL_CALC_FOUND_ROWS", group: true},
	kwSqlNoCache:       {name: "SQL_NO_CACHE"},
	kwSqlSmallResult:   {name: "SQL_SMALL_RESULT", group: true},
	kwStart:            {name: "START"},
	kwStatement:        {name: "STATEMENT"},
	kwStop:             {name: "STOP"},
	kwStraightJoin:     {name: "STRAIGHT_JOIN", group: true},
	kwTable:            {name: "TABLE", group: true},
	kwTables:           {name: "TABLES"},
	kwTemporary:        {name: "TEMPORARY"},
	kwThen:             {name: "THEN", group: true},
	kwTinyint:          {name: "TINYINT", group: true},
	kwTo:               {name: "TO"},
	kwTrailing:         {name: "TRAILING", group: true},
	kwTransaction:      {name: "TRANSACTION"},
	kwTrigger:          {name: "TRIGGER"},
	kwTrue:             {name: "TRUE"},
	kwTruncate:         {name: "TRUNCATE"},
	kwUncommitted:      {name: "UNCOMMITTED"},
	kwUninstall:        {name: "UNINSTALL"},
	kwUnion:            {name: "UNION", group: true},
	kwUnlock:           {name: "UNLOCK"},
	kwUpdate:           {name: "UPDATE"},
	kwUse:              {name: "USE"},
	kwUser:             {name: "USER"},
	kwUsing:            {name: "USING", group: true},
	kwValue:            {name: "VALUE"},
	kwValues:           {name: "VALUES", group: true},
	kwVarbinary:        {name: "VARBINARY", group: true},
	kwVarchar:          {name: "VARCHAR", group: true},
	kwVersioning:       {name: "VERSIONING"},
	kwView:             {name: "VIEW"},
	kwWhen:             {name: "WHEN", group: true},
	kwWhere:            {name: "WHERE", group: true},
	kwWhile:            {name: "WHILE"},
	kwWindow:           {name: "WINDOW"},
	kwWith:             {name: "WITH", group: true},
	kwWithout:          {name: "WITHOUT"},
	kwWork:             {name: "WORK"},
	kwWrite:            {name: "WRITE"},
	kwXa:               {name: "XA"},
	kwXml:              {name: "XML"},
	kwXor:              {name: "XOR", group: true},
}

// String returns the keyword as written in capitals.
func (k keyword) String() string { return keywords[k].name }

var keywordIndex = newWordIndex(int(keywordCount), func(i int) string { return keywords[i].name })

func lookupKeyword(word []byte) keyword { return keyword(keywordIndex.lookup(word)) }

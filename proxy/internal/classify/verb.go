package classify

// Verb is the first keyword of a statement; 0 is none that is known.
type Verb uint8

// The verbs that the session tells apart. Verbs without a name here have one
// for String all the same.
const (
	NoVerb         = Verb(noKeyword)
	VerbAlter      = Verb(kwAlter)
	VerbBegin      = Verb(kwBegin)
	VerbCall       = Verb(kwCall)
	VerbCommit     = Verb(kwCommit)
	VerbCreate     = Verb(kwCreate)
	VerbDeallocate = Verb(kwDeallocate)
	VerbDelete     = Verb(kwDelete)
	VerbDescribe   = Verb(kwDescribe)
	VerbDo         = Verb(kwDo)
	VerbDrop       = Verb(kwDrop)
	VerbExecute    = Verb(kwExecute)
	VerbExplain    = Verb(kwExplain)
	VerbInsert     = Verb(kwInsert)
	VerbKill       = Verb(kwKill)
	VerbLoad       = Verb(kwLoad)
	VerbLock       = Verb(kwLock)
	VerbPrepare    = Verb(kwPrepare)
	VerbReplace    = Verb(kwReplace)
	VerbRollback   = Verb(kwRollback)
	VerbSelect     = Verb(kwSelect)
	VerbSet        = Verb(kwSet)
	VerbShow       = Verb(kwShow)
	VerbStart      = Verb(kwStart)
	VerbTruncate   = Verb(kwTruncate)
	VerbUnlock     = Verb(kwUnlock)
	VerbUpdate     = Verb(kwUpdate)
	VerbUse        = Verb(kwUse)
	VerbValues     = Verb(kwValues)
	VerbWith       = Verb(kwWith)
	VerbXA         = Verb(kwXa)
)

// String returns the verb in capitals, "" for NoVerb.
func (v Verb) String() string {
	if v >= Verb(keywordCount) {
		return "unknown verb"
	}
	return keywords[v].name
}

// shape is how the words behind a verb are read.
type shape uint8

const (
	shapeUnknown  shape = iota
	shapeRead           // a query: a read unless something in it says otherwise
	shapePlain          // as the rule says, whatever follows
	shapeOpaque         // as shapePlain, and what follows is not run now (a view's text)
	shapeExplain        // EXPLAIN, DESCRIBE, DESC, ANALYZE
	shapeShow           // SHOW
	shapeSet            // SET
	shapeUse            // USE
	shapeBegin          // BEGIN, as a transaction or as a block
	shapeStart          // START TRANSACTION, START REPLICA
	shapeEnd            // COMMIT, ROLLBACK
	shapeDefine         // CREATE, ALTER, DROP
	shapeLoad           // LOAD
	shapeFlush          // FLUSH
	shapeLock           // LOCK, UNLOCK
	shapeExecute        // EXECUTE
	shapeCompound       // IF, LOOP …: a block to the end of the text
)

// verbRule is one line of the table of verbs. A shape that decides for itself
// ignores the rest.
type verbRule struct {
	shape  shape
	reason Reason
	flags  Flags
	// assigns: a user variable named behind the verb gets a value.
	assigns bool
}

// verbs says what the first keyword of a statement means. Every statement of
// both servers' manuals is here; what is not is not understood.
var verbs = [keywordCount]verbRule{
	kwSelect: {shape: shapeRead},
	kwValues: {shape: shapeRead},
	kwTable:  {shape: shapeRead, flags: UsesTable},
	kwWith:   {shape: shapeRead},
	kwHelp:   {shape: shapeRead},

	kwExplain:  {shape: shapeExplain},
	kwDescribe: {shape: shapeExplain},
	kwDesc:     {shape: shapeExplain},
	kwAnalyze:  {shape: shapeExplain},
	kwShow:     {shape: shapeShow},

	kwSet:       {shape: shapeSet},
	kwUse:       {shape: shapeUse},
	kwBegin:     {shape: shapeBegin},
	kwStart:     {shape: shapeStart},
	kwCommit:    {shape: shapeEnd},
	kwRollback:  {shape: shapeEnd},
	kwSavepoint: {shape: shapePlain, reason: InTransaction},
	kwRelease:   {shape: shapePlain, reason: InTransaction},
	kwXa:        {shape: shapePlain, reason: IsXA, flags: XA},

	kwInsert:  {shape: shapePlain, reason: MayWrite, flags: UsesTable},
	kwReplace: {shape: shapePlain, reason: MayWrite, flags: UsesTable},
	kwUpdate:  {shape: shapePlain, reason: MayWrite, flags: UsesTable},
	kwDelete:  {shape: shapePlain, reason: MayWrite, flags: UsesTable},
	kwDo:      {shape: shapePlain, reason: MayWrite},
	kwBinlog:  {shape: shapePlain, reason: MayWrite, flags: OpaqueSession},
	kwLoad:    {shape: shapeLoad},
	kwImport:  {shape: shapePlain, reason: MayWrite, flags: ImplicitCommit},
	kwCall:    {shape: shapePlain, reason: CallsStoredProcedure, flags: CallsProcedure | OpaqueSession, assigns: true},
	kwHandler: {shape: shapePlain, reason: UsesHandler, flags: OpaqueSession | UsesTable},

	kwPrepare:    {shape: shapePlain, reason: PreparesStatement, flags: PreparesText},
	kwExecute:    {shape: shapeExecute},
	kwDeallocate: {shape: shapePlain, reason: PreparesStatement, flags: DeallocatesText},

	kwCreate:    {shape: shapeDefine},
	kwAlter:     {shape: shapeDefine},
	kwDrop:      {shape: shapeDefine},
	kwTruncate:  {shape: shapeOpaque, reason: ChangesSchema, flags: ImplicitCommit | UsesTable},
	kwRename:    {shape: shapeOpaque, reason: ChangesSchema, flags: ImplicitCommit},
	kwGrant:     {shape: shapeOpaque, reason: ChangesSchema, flags: ImplicitCommit},
	kwRevoke:    {shape: shapeOpaque, reason: ChangesSchema, flags: ImplicitCommit},
	kwInstall:   {shape: shapeOpaque, reason: ChangesSchema, flags: ImplicitCommit},
	kwUninstall: {shape: shapeOpaque, reason: ChangesSchema, flags: ImplicitCommit},

	kwLock:   {shape: shapeLock},
	kwUnlock: {shape: shapeLock},
	kwFlush:  {shape: shapeFlush},
	kwBackup: {shape: shapePlain, reason: Administers, flags: OpaqueSession},

	kwOptimize: {shape: shapeOpaque, reason: Administers, flags: ImplicitCommit | UsesTable},
	kwRepair:   {shape: shapeOpaque, reason: Administers, flags: ImplicitCommit | UsesTable},
	kwCheck:    {shape: shapeOpaque, reason: Administers, flags: ImplicitCommit | UsesTable},
	kwChecksum: {shape: shapePlain, reason: Administers, flags: UsesTable},
	kwCache:    {shape: shapeOpaque, reason: Administers, flags: ImplicitCommit | UsesTable},
	kwReset:    {shape: shapeOpaque, reason: Administers, flags: ImplicitCommit},
	kwChange:   {shape: shapeOpaque, reason: Administers, flags: ImplicitCommit},
	kwStop:     {shape: shapeOpaque, reason: Administers, flags: ImplicitCommit},
	kwPurge:    {shape: shapePlain, reason: Administers},
	kwClone:    {shape: shapePlain, reason: Administers},
	kwShutdown: {shape: shapePlain, reason: Administers},
	kwRestart:  {shape: shapePlain, reason: Administers},
	kwKill:     {shape: shapePlain, reason: KillsConnection, flags: Kills},

	kwGet:      {shape: shapePlain, reason: OneConnectionsAnswer, flags: Diagnostics, assigns: true},
	kwSignal:   {shape: shapePlain, reason: MayWrite},
	kwResignal: {shape: shapePlain, reason: MayWrite},

	kwIf:      {shape: shapeCompound},
	kwCase:    {shape: shapeCompound},
	kwLoop:    {shape: shapeCompound},
	kwWhile:   {shape: shapeCompound},
	kwRepeat:  {shape: shapeCompound},
	kwFor:     {shape: shapeCompound},
	kwDeclare: {shape: shapeCompound},
}

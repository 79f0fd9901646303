package classify

// Statements calls yield for each statement of sql, without its semicolon and
// the white space and comments around it, until yield returns false. From a
// compound statement or the text of a routine on, the rest is one statement;
// so it is from a semicolon on that stands within a /*! … */ comment.
func Statements(sql []byte, m Mode, yield func(stmt []byte) bool) {
	s := scan{lexer: newLexer(sql, m)}
	for from := 0; !s.done; {
		if !s.inVersion {
			from = s.pos
		}
		t := s.next()
		if t.op == ';' {
			continue
		}
		if t.kind == tokenEnd {
			return
		}
		if !s.inVersion {
			from = t.start // else the comment that is code belongs to it
		}
		s.statement(t)
		end := s.pos
		switch {
		case s.done || s.inVersion:
			end, s.done = len(sql), true
		case end > from && sql[end-1] == ';':
			end--
		}
		if !yield(trim(sql[from:end])) {
			return
		}
	}
}

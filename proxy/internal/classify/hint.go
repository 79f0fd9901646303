package classify

import "math"

// leadingHint reads /* farmhand: … */ among the comments that text begins
// with; parentheses may stand among them. The first one counts.
func leadingHint(text []byte) Hint {
	for i := 0; i < len(text); {
		c := text[i]
		if is(c, isSpace) || c == '(' {
			i++
			continue
		}
		if c != '/' || i+1 >= len(text) || text[i+1] != '*' {
			return Hint{}
		}
		end := i + 2
		for end+1 < len(text) && (text[end] != '*' || text[end+1] != '/') {
			end++
		}
		if end+1 >= len(text) {
			return Hint{}
		}
		if body, ok := cutFold(trim(text[i+2:end]), "FARMHAND"); ok {
			if body = trim(body); len(body) > 0 && body[0] == ':' {
				return parseHint(body[1:])
			}
		}
		i = end + 2
	}
	return Hint{}
}

// parseHint reads the settings of a hint, parted by commas or white space.
func parseHint(body []byte) Hint {
	h := Hint{Present: true}
	malformed := Hint{Present: true, Malformed: true}
	settings := 0
	for i := 0; i < len(body); {
		if is(body[i], isSpace) || body[i] == ',' {
			i++
			continue
		}
		end := i
		for end < len(body) && !is(body[end], isSpace) && body[end] != ',' {
			end++
		}
		setting := body[i:end]
		i = end
		settings++
		switch value, ok := cutFold(setting, "MAX_LAG="); {
		case ok:
			lag, valid := parseDuration(value)
			if !valid || h.MaxLag != 0 {
				return malformed
			}
			h.MaxLag = lag
		case len(setting) > len("CONSISTENCY=") && equalFold(setting[:len("CONSISTENCY=")], "CONSISTENCY="):
			level := parseConsistency(setting[len("CONSISTENCY="):])
			if level == NoConsistency || h.Consistency != NoConsistency {
				return malformed
			}
			h.Consistency = level
		case h.Target != NoTarget:
			return malformed
		case equalFold(setting, "PRIMARY"):
			h.Target = ToPrimary
		case equalFold(setting, "REPLICA"):
			h.Target = ToReplica
		default:
			return malformed
		}
	}
	if settings == 0 {
		return malformed
	}
	return h
}

func parseConsistency(b []byte) Consistency {
	switch {
	case equalFold(b, "EVENTUAL"):
		return EventualConsistency
	case equalFold(b, "SESSION"):
		return SessionConsistency
	case equalFold(b, "FARM"):
		return FarmConsistency
	case equalFold(b, "STRICT"):
		return StrictConsistency
	}
	return NoConsistency
}

// parseDuration reads a positive whole or decimal number with a unit.
func parseDuration(b []byte) (nanoseconds int64, ok bool) {
	i, value, scale, digits := 0, 0.0, 1.0, 0
	for point := false; i < len(b) && (is(b[i], isDigit) || b[i] == '.' && !point); i++ {
		if b[i] == '.' {
			point = true
			continue
		}
		digits++
		value = value*10 + float64(b[i]-'0')
		if point {
			scale *= 10
		}
	}
	unit := 0.0
	switch string(b[i:]) {
	case "us":
		unit = 1e3
	case "ms":
		unit = 1e6
	case "s":
		unit = 1e9
	case "m":
		unit = 60e9
	case "h":
		unit = 3600e9
	}
	n := value / scale * unit
	if digits == 0 || n < 1 || n > math.MaxInt64/2 {
		return 0, false
	}
	return int64(n), true
}

// cutFold takes prefix, in capitals, off b whatever its case.
func cutFold(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || !equalFold(b[:len(prefix)], prefix) {
		return b, false
	}
	return b[len(prefix):], true
}

// trim takes white space off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && is(b[0], isSpace) {
		b = b[1:]
	}
	for len(b) > 0 && is(b[len(b)-1], isSpace) {
		b = b[:len(b)-1]
	}
	return b
}

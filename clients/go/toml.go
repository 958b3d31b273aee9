package client

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// parseKeys reads the part of TOML that a client's configuration needs: `key = "text"` lines with basic or literal
// strings, comments and blank lines. Everything else is an error with its line, so that no file is half understood.
// An error never repeats a value.
func parseKeys(text string, allowed []string) (map[string]string, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("it is not UTF-8 text")
	}
	known := make(map[string]bool, len(allowed))
	for _, key := range allowed {
		known[key] = true
	}
	found := make(map[string]string, len(allowed))
	for at, line := range strings.Split(text, "\n") {
		line = strings.Trim(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, rest, isPair := strings.Cut(line, "=")
		key = strings.TrimRight(key, " \t")
		switch {
		case !isPair || !isBareKey(key):
			return nil, fmt.Errorf("line %d: not key = \"text\"", at+1)
		case !known[key]:
			return nil, fmt.Errorf("line %d: unknown key %s", at+1, key)
		}
		if _, twice := found[key]; twice {
			return nil, fmt.Errorf("line %d: %s is given twice", at+1, key)
		}
		value, rest, err := parseString(strings.TrimLeft(rest, " \t"))
		if err != nil {
			return nil, fmt.Errorf("line %d: %s %w", at+1, key, err)
		}
		if rest = strings.TrimLeft(rest, " \t"); rest != "" && !strings.HasPrefix(rest, "#") {
			return nil, fmt.Errorf("line %d: %s is followed by more than a comment", at+1, key)
		}
		found[key] = value
	}
	return found, nil
}

func isBareKey(key string) bool {
	for _, c := range key {
		if c > unicode.MaxASCII || !(unicode.IsLetter(c) || unicode.IsDigit(c) || c == '_' || c == '-') {
			return false
		}
	}
	return key != ""
}

// parseString takes a one-line string off the front and returns what follows it.
func parseString(text string) (value, rest string, err error) {
	if literal, isLiteral := strings.CutPrefix(text, "'"); isLiteral {
		value, rest, closed := strings.Cut(literal, "'")
		if !closed || hasControl(value) {
			return "", "", fmt.Errorf("is not a string on one line")
		}
		return value, rest, nil
	}
	text, isBasic := strings.CutPrefix(text, `"`)
	if !isBasic {
		return "", "", fmt.Errorf("is not a string")
	}
	var out strings.Builder
	for at := 0; at < len(text); at++ {
		switch c := text[at]; {
		case c == '"':
			return out.String(), text[at+1:], nil
		case c == '\\':
			one, width, err := parseEscape(text[at+1:])
			if err != nil {
				return "", "", err
			}
			out.WriteRune(one)
			at += width
		case (c < 0x20 && c != '\t') || c == 0x7f:
			return "", "", fmt.Errorf("holds a control character")
		default:
			out.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("is not closed")
}

// parseEscape reads what follows a backslash, and says how many bytes that were.
func parseEscape(text string) (rune, int, error) {
	simple := map[byte]rune{'"': '"', '\\': '\\', 'b': '\b', 't': '\t', 'n': '\n', 'f': '\f', 'r': '\r'}
	if text == "" {
		return 0, 0, fmt.Errorf("ends with a backslash")
	}
	if one, ok := simple[text[0]]; ok {
		return one, 1, nil
	}
	digits := map[byte]int{'u': 4, 'U': 8}[text[0]]
	if digits == 0 || len(text) < 1+digits {
		return 0, 0, fmt.Errorf("has an unknown escape")
	}
	code, err := strconv.ParseUint(text[1:1+digits], 16, 32)
	if err != nil || code > unicode.MaxRune || !utf8.ValidRune(rune(code)) {
		return 0, 0, fmt.Errorf("has an unknown escape")
	}
	return rune(code), 1 + digits, nil
}

func hasControl(text string) bool {
	return strings.ContainsFunc(text, func(c rune) bool { return (c < 0x20 && c != '\t') || c == 0x7f })
}

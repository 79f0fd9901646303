package mask

import "testing"

func TestMask(t *testing.T) {
	m := Mask{secrets: []string{"hunter2hunter2", "hunter2"}}
	for in, want := range map[string]string{
		"it is hunter2hunter2 and hunter2.": "it is *** and ***.",
		"nothing to see":                    "nothing to see",
		"password=abc x":                    "password=*** x",
		"DB_PASSWORD = 'a b' x":             "DB_PASSWORD = *** x",
		`{"password": "a\"b", "n": 1}`:      `{"password": ***, "n": 1}`,
		"Authorization: Bearer abc.def x":   "Authorization: *** x",
		"api-key:abc":                       "api-key:***",
		"mysql://app:abc@db1/x":             "mysql://app:***@db1/x",
		"?token=abc&x":                      "?token=***", // rather too much
		"password is asked for":             "password is asked for",
	} {
		if got := m.Text(in); got != want {
			t.Errorf("%q:\n got %q\nwant %q", in, got, want)
		}
	}
	// At the end of a text that goes on, the beginning of a secret counts.
	for in, want := range map[string]string{
		"it is hunter2hun":         "it is ",
		"it is hunter2hunter2":     "it is ***", // and not half of it
		"it is hunter2hunter2hunt": "it is ***",
		"it is hunter2":            "it is ", // which may go on
		"nothing":                  "nothing",
	} {
		if got := m.Beginning(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := m.Fields(map[string]string{"password": "x", "zone": "hunter2"}); got["password"] != Masked || got["zone"] != Masked {
		t.Errorf("got %v", got)
	}
}

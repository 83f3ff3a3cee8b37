package transport

import (
	"encoding/json"

	"recpie/internal/wire/strictjson"
)

// Unmarshal reads the JSON of an answer into out, and refuses what encoding/json lets pass although it says that the answer is not what
// the server meant: bytes that are no UTF-8 (they would become U+FFFD inside a text) and an object with one key twice (the last would
// count, for other readers the first).
func Unmarshal(data []byte, out any) error {
	r := strictjson.New(data)
	r.Skip()
	if err := r.Close(); err != nil {
		return err
	}
	return json.Unmarshal(data, out)
}

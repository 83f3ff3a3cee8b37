package orchestrator

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"recpie/adapters"
	"recpie/internal/fault"
)

// VersionAuthor returns a version of the policy, on top of the base model, as the author of a batch. Its digest is that of the base, of
// the adapter's weights and of the soft prompts: another of any of them is another author, whatever its name. Users are found by their
// ids, so that the data may have grown since the version was made; unknown says how many of the data's users came after it, whose
// soft prompt is that of an unknown user. soft false leaves the soft prompts out.
func VersionAuthor(base Author, v *adapters.Version, soft bool, users []string) (who Author, unknown int, err error) {
	who = Author{Model: base.Model, Digest: base.Digest}
	if v.HasAdapter() {
		who.Model = v.Name
		who.Digest += " adapter " + v.Files[adapters.WeightsFile] + " " + v.Files[adapters.ConfigFile]
	}
	if !soft {
		return who, 0, nil
	}
	p, err := v.SoftPrompt()
	if err != nil || p == nil {
		return who, 0, err
	}
	row := make([]int32, len(users))
	for i, id := range users {
		var named bool
		if row[i], named = p.Find(id); !named {
			return who, 0, fault.WithHint(fault.Newf(fault.Fatal, "version", "the soft prompts of %s do not say whose they are", v.Name), "it was made by an older program: train anew, or set inference.soft_prompts: false")
		}
		if row[i] < 0 {
			unknown++
		}
	}
	who.Digest += " soft " + v.Files[adapters.SoftFile]
	k, _ := p.Shape()
	who.Soft = func(user int32) ([]float32, int, error) {
		rows, err := p.Rows(row[user])
		return rows, k, err
	}
	return who, unknown, nil
}

// VersionAfter returns the name of the version that a run's round ended with. Round 0 means the last round that has one.
func VersionAfter(run string, round int) (string, error) {
	dir := filepath.Join(run, "checkpoints")
	names, err := checkpoints(dir)
	if err != nil {
		return "", err
	}
	for _, name := range slices.Backward(names) {
		c, err := readCheckpoint(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		if round == 0 || c.Round == round {
			return c.Version, nil
		}
	}
	return "", fault.WithHint(fault.Newf(fault.Fatal, "version", "%s has no version of the policy", run), "only runs with policy steps have (policy.rounds, training.frozen)")
}

// NamedVersions returns the versions that a run's checkpoints name: what it would continue from. A run without checkpoints names none.
func NamedVersions(run string) ([]string, error) {
	dir := filepath.Join(run, "checkpoints")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names, err := checkpoints(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		c, err := readCheckpoint(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if c.Version != "" {
			out = append(out, c.Version)
		}
	}
	return out, nil
}

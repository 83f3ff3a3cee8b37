package formats

import (
	"path/filepath"
	"strings"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

func csvSet(o Options, files []string) *tableSet {
	s := &tableSet{opts: o, joint: "|", spec: dataset.Spec{ItemInputs: []string{"title", "categories", "profile", "price", "year"}, Review: "review"}}
	for _, path := range files {
		f := tableFile{path: path, sep: ",", quotes: true}
		if name := filepath.Base(path); strings.HasPrefix(name, "items") || strings.HasPrefix(name, "movies") {
			s.items = append(s.items, f)
		} else {
			s.reviews = append(s.reviews, f)
		}
	}
	return s
}

func recboleSet(o Options, files []string) (*tableSet, error) {
	s := &tableSet{opts: o, joint: " ", spec: dataset.Spec{ItemInputs: []string{"title", "categories", "year"}}}
	for _, path := range files {
		f := tableFile{path: path, sep: "\t", typed: true}
		switch name := strings.TrimSuffix(path, ".gz"); {
		case strings.HasSuffix(name, ".item"):
			s.items = append(s.items, f)
		case strings.HasSuffix(name, ".inter"):
			s.reviews = append(s.reviews, f)
		case strings.HasSuffix(name, ".user"): // what users say of themselves is not used
		default:
			return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "%s is no atomic file", path), "name files that end in .inter, .item or .user")
		}
	}
	return s, nil
}

// genres of u.item, in the order of its columns.
var genres = []string{"unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery",
	"Romance", "Sci-Fi", "Thriller", "War", "Western"}

// movielens tells the releases apart by the names of their files.
func movielens(o Options, files []string) (*tableSet, error) {
	s := &tableSet{opts: o, joint: "|", spec: dataset.Spec{Domain: "movie", Verb: "watched this movie", Min: .5, Max: 5, ItemInputs: []string{"title", "categories", "year"}}}
	for _, path := range files {
		switch name := strings.TrimSuffix(filepath.Base(path), ".gz"); name {
		case "u.data":
			s.spec.Min = 1
			s.reviews = append(s.reviews, tableFile{path: path, sep: "\t", columns: []string{"user_id", "item_id", "rating", "timestamp"}})
		case "u.item":
			columns := []string{"item_id", "title", "released", "released on video", "address"}
			for _, g := range genres {
				columns = append(columns, genrePrefix+g)
			}
			s.items = append(s.items, tableFile{path: path, sep: "|", latin1: true, columns: columns})
		case "ratings.dat":
			s.spec.Min = 1
			s.reviews = append(s.reviews, tableFile{path: path, sep: "::", latin1: true, columns: []string{"user_id", "item_id", "rating", "timestamp"}})
		case "movies.dat":
			s.items = append(s.items, tableFile{path: path, sep: "::", latin1: true, columns: []string{"item_id", "title", "genres"}})
		case "ratings.csv":
			s.reviews = append(s.reviews, tableFile{path: path, sep: ",", quotes: true})
		case "movies.csv":
			s.items = append(s.items, tableFile{path: path, sep: ",", quotes: true})
		default:
			return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "%s is no file of MovieLens that is known", path), "name u.data and u.item, ratings.dat and movies.dat, or ratings.csv and movies.csv")
		}
	}
	return s, nil
}

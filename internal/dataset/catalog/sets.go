package catalog

const amazonTerms = "for research; cite the paper that the page names. The page grants no general licence, and reviews belong to those who wrote them"

// sets are the public sets that the readers know, in the order in which they are listed.
var sets = []Set{
	{
		Name: "ml-100k", Title: "MovieLens 100K: 100,000 ratings of 943 users on 1,682 films", Page: "https://grouplens.org/datasets/movielens/100k/",
		How: "'make setup' puts it into the cache in RecBole's form; there is nothing to fetch by hand", Terms: movieLensTerms, Size: "2 MB",
		Command: "recpie data check ml-100k",
	},
	{
		Name: "movielens", Title: "MovieLens: ratings of films, from ml-latest-small to ml-32m", Format: "movielens", Page: "https://grouplens.org/datasets/movielens/",
		How: "download the zip file of the size you want and unpack it", Terms: movieLensTerms, Files: []string{"ratings.csv or ratings.dat", "movies.csv or movies.dat"},
		Size: "1 MB (latest-small) to 240 MB (32M), packed", Notes: []string{"there are no review texts"},
		Command: "recpie data import --format movielens ratings.csv movies.csv --out data/ml-latest-small",
	},
	{
		Name: "amazon-movies-2023", Title: "Amazon Reviews 2023, Movies and TV: 17.3 million reviews of 6.5 million users", Format: "amazon-2023", Page: "https://amazon-reviews-2023.github.io/",
		How: "choose the category Movies_and_TV; take both its reviews and its metadata", Terms: amazonTerms,
		Files: []string{"Movies_and_TV.jsonl.gz", "meta_Movies_and_TV.jsonl.gz"}, Size: "several GB packed",
		Notes:   []string{"the set of the paper; other categories have the same form"},
		Command: "recpie data import --format amazon-2023 Movies_and_TV.jsonl.gz meta_Movies_and_TV.jsonl.gz --k-core 5 --out data/amazon-movies-2023",
	},
	{
		Name: "amazon-2018", Title: "Amazon review data 2018 by category", Format: "amazon-2018", Page: "https://nijianmo.github.io/amazon/index.html",
		How: "the page asks for a form before it shows the links of the complete data; the 5-core subsets are for small experiments", Terms: amazonTerms,
		Files: []string{"CATEGORY.json.gz", "meta_CATEGORY.json.gz"}, Size: "some 3 GB packed for Movies_and_TV",
		Command: "recpie data import --format amazon-2018 Movies_and_TV.json.gz meta_Movies_and_TV.json.gz --k-core 5 --out data/amazon-movies-2018",
	},
	{
		Name: "amazon-2014", Title: "Amazon product data 2014 by category", Format: "amazon-2014", Page: "https://jmcauley.ucsd.edu/data/amazon/",
		How: "take the reviews of a category and its metadata", Terms: amazonTerms,
		Files: []string{"reviews_CATEGORY.json.gz", "meta_CATEGORY.json.gz"}, Size: "some 1 GB packed for Movies_and_TV",
		Command: "recpie data import --format amazon-2014 reviews_Movies_and_TV.json.gz meta_Movies_and_TV.json.gz --k-core 5 --out data/amazon-movies-2014",
	},
	{
		Name: "yelp", Title: "Yelp Open Dataset: 7 million reviews of 150,000 businesses in 11 metropolitan areas", Format: "yelp", Page: "https://business.yelp.com/data/resources/open-dataset/",
		How:   "accept Yelp's terms on the page, download the JSON archive and unpack it",
		Terms: "Yelp's dataset agreement: academic use without profit, no passing on; read it before you accept",
		Files: []string{"yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json"}, Size: "some 4 GB packed, 9 GB unpacked",
		Notes:   []string{"restaurants are kept; --where picks a city, a state or another category, category=* all"},
		Command: "recpie data import --format yelp yelp_academic_dataset_business.json yelp_academic_dataset_review.json --k-core 5 --out data/yelp-restaurants",
	},
	{
		Name: "tripadvisor", Title: "TripAdvisor hotels of Hong Kong, as published with NETE and PETER: 320,000 reviews with aspect terms", Format: "tripadvisor-peter", Page: "https://github.com/lileipisces/PETER",
		How:   "the page's section on data links to a shared folder; take TripAdvisor's reviews.pickle and convert it as docs/formats.md says",
		Terms: "published for research with the papers that the page names; the page grants no licence, and reviews belong to TripAdvisor and those who wrote them",
		Files: []string{"reviews.jsonl, made of reviews.pickle"}, Size: "some 100 MB",
		Notes:   []string{"a pickled file can run any program when it is loaded: recpie never loads one. Convert it in a place of which you would lose nothing"},
		Command: "recpie data import --format tripadvisor-peter reviews.jsonl --out data/tripadvisor",
	},
	{
		Name: "google-local", Title: "Google Local reviews to September 2021, by US state", Format: "google-local", Page: "https://mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal/",
		How: "take the reviews and the metadata of a state; California holds Mountain View", Terms: "for research; cite the papers that the page names. The page grants no general licence",
		Files: []string{"review-California.json.gz", "meta-California.json.gz"}, Size: "tens of GB unpacked for California",
		Notes:   []string{"the paper keeps postcodes 94035 to 94043"},
		Command: "recpie data import --format google-local review-California.json.gz meta-California.json.gz --where postcode=94035..94043 --out data/google-mountain-view",
	},
}

const movieLensTerms = "GroupLens: for research, with acknowledgement; neither passing on nor commercial use without permission. The README in the archive says it in full"

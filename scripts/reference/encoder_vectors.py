#!/usr/bin/env python3
"""Reference sentence vectors for recommender/encoder.

Writes recommender/encoder/testdata/reference.json.gz: sentences and their vectors by sentence-transformers as base64 of
little-endian float16 (rounding costs 1e-7 of cosine). Made with Debian's python3-torch 1.13.1, sentence-transformers 2.7.0,
transformers 4.40.2, tokenizers 0.19.1, numpy 1.26.4:

    encoder_vectors.py ENCODER_DIR OUTPUT
"""
import base64, gzip, json, sys

import numpy, sentence_transformers, torch, transformers
from sentence_transformers import SentenceTransformer

SENTENCES = [
    "The user watched this movie because the user loves comedy and the comedy is widely praised.",
    "The user did not watch this movie because the user dislikes horror and the horror is criticised.",
    "The user watched this movie because the user likes drama and the drama is praised.",
    "The user watched this movie because the user loves films of the 1990s and the film is from the 1990s.",
    "The user did not watch this movie because the user is indifferent to westerns and the western is mixed.",
    "The user purchased this product because the user plays the guitar and the product is a set of strings.",
    "The user did not purchase this product because the user prefers wireless gear and the product needs a cable.",
    "The user stayed at this hotel because the user values cleanliness and the hotel is spotless.",
    "The user did not stay at this hotel because the user dislikes noise and the hotel is beside a motorway.",
    "The consumer is looking for a unique and flavorful dining experience and the restaurant offers a variety of Asian cuisine.",
    "The consumer is looking for a traditional Japanese experience and wants to escape the busy city life, while the restaurant is not a traditional Japanese experience and is located in a city.",
    "Siam Thai Kitchen is a Thai restaurant that offers a unique dining experience in the city.",
    "comedy", "a", "", " ", "...", "?!", "42", "1999", "3.14159", "C-3PO", "x^2 + y^2 = z^2",
    "Good.", "BAD!", "not bad", "not good", "It is not the case that the film was bad.",
    "Amélie is a naïve café waitress.", "Das Boot läuft im Fernsehen; schöne Grüße.", "La película fue aburrida, señor.",
    "Фильм очень хороший.", "この映画は面白い。", "这部电影很好看。", "영화가 좋았어요.", "الفيلم جيد", "Η ταινία ήταν καλή.", "हिन्दी फिल्म",
    "I \u2764\ufe0f this movie \U0001f3ac\U0001f37f", "tab\tand\nnewline and  double  spaces", "zero\u200bwidth", "soft\u00adhyphen",
    "ﬁne ligatures and ½ fractions", "ALL CAPS SHOUTING ABOUT A HOTEL", "hyphen-ated, comma-separated; semi:colon/slash\\backslash",
    "\"Quoted\" and 'single' and “curly” and ‘curly’.", "$19.99 for 2 nights (incl. 7% tax) @ the Ritz #luxury",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis", "supercalifragilistic" * 8,
    "Room service was slow, the front desk was rude, but the view over the bay made up for everything.",
    "An astonishing, heartbreaking and often very funny film about growing old, with career-best turns from its two leads.",
    "This pedal is built like a tank and has worked flawlessly in the time I have had it.",
    "The strings broke after two days and the seller never answered.",
    "Toy Story (1995): Animation, Children's, Comedy.",
    " ".join(["the hotel was clean and the staff were friendly"] * 20),
    " ".join(["a long review that goes on past the limit of the encoder"] * 40),
    " ".join("word%d" % i for i in range(300)),
    "[CLS] special [SEP] tokens [MASK] in [PAD] text [UNK]",
]


def main(encoder, output):
    model = SentenceTransformer(encoder, device="cpu")
    vectors = model.encode(SENTENCES, convert_to_numpy=True, normalize_embeddings=True)
    data = {
        "made_with": {"torch": torch.__version__, "sentence-transformers": sentence_transformers.__version__,
                      "transformers": transformers.__version__, "numpy": numpy.__version__},
        "dim": int(vectors.shape[1]),
        "texts": SENTENCES,
        "float16": base64.b64encode(vectors.astype("<f2").tobytes()).decode(),
    }
    with open(output, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as f:
        f.write(json.dumps(data, ensure_ascii=True).encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

// Package tune searches hyperparameters on validation records, with the same budget for every model that is compared.
//
// A Search draws trials from a Space, has an Objective measure each, and keeps every finished one in trials.jsonl before it counts:
// a search that was killed loses at most the trials that were running, and the same search goes on behind them. Trial 0 is the model's
// own settings. Trial i depends on the seed, on i and on the names in the space alone, so that neither the number of workers nor the
// order in which they finish changes what is tried.
//
// The lowest of many noisy measurements is too good to be true (the winner's curse). The best few trials and the model's own settings
// are therefore measured again with fresh seeds, and these means decide. They still come from the validation records that chose the
// finalists: what the winner is worth, test records say, and those no Objective may see.
package tune

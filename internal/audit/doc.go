// Package audit measures whether predictions depend on the explanations shown with them.
//
// A prediction is repeated with its two sentences altered: taken away, exchanged, replaced by those of somebody else, turned into their
// opposites, shortened by one reason. What the prediction then does is the audit; nothing is trained. The idea and the words
// "comprehensiveness" and "sufficiency" are those of DeYoung et al. 2020, ERASER; a sentence that moves nothing is called inert.
//
// The package knows no network and no grammar: a Predictor predicts, an Editor alters sentences. Predictions and changes are on [0,1];
// a change is the altered prediction less the original one.
package audit

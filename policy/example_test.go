package policy_test

import (
	"fmt"

	"recpie/policy"
)

// Four alternatives for one pair: what counts is how each compares with the other three, not how easy the pair is to predict.
func ExampleAdvantages() {
	group := policy.Group{}
	for _, predicted := range []float64{.70, .72, .74, .80} { // y = .8
		r, err := policy.Reward(.8, predicted)
		if err != nil {
			fmt.Println(err)
			return
		}
		group.Texts = append(group.Texts, policy.Text{Reward: r})
	}
	adv, _ := policy.Advantages([]policy.Group{group}, nil, policy.DefaultSettings())
	fmt.Printf("%.2f\n", adv[0])
	// Output: [-1.04 -0.55 -0.04 1.62]
}

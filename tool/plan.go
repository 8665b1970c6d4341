package tool

import (
	"context"
	"fmt"
	"strings"

	"github.com/errand-dev/errand"
)

// maxPlan bounds the items of a plan.
const maxPlan = 100

func (s *Set) updatePlan(_ context.Context, c Call) (Result, error) {
	var args struct {
		Items []errand.PlanItem `json:"items"`
	}
	if err := decodeCall(c, &args, "items"); err != nil {
		return Result{}, err
	}
	if len(args.Items) > maxPlan {
		return Result{}, misusef("the plan has %d items; at most %d are taken.", len(args.Items), maxPlan)
	}
	done := 0
	for i, item := range args.Items {
		switch item.Status {
		case "done":
			done++
		case "completed":
			args.Items[i].Status = "done"
			done++
		case "":
			args.Items[i].Status = "pending"
		case "pending", "in_progress":
		default:
			return Result{}, misusef("item %d has the status %q; it must be pending, in_progress or done.", i+1, item.Status)
		}
		if strings.TrimSpace(item.Text) == "" {
			return Result{}, misusef("item %d has no text.", i+1)
		}
	}
	plan := errand.PlanData{Items: args.Items}
	return Result{
		Output:     fmt.Sprintf("Plan updated: %d of %s done.", done, count(len(args.Items), "item")),
		Structured: plan,
		Plan:       &plan,
	}, nil
}

func (s *Set) finish(_ context.Context, c Call) (Result, error) {
	var end End
	if err := decodeCall(c, &end, "summary"); err != nil {
		return Result{}, err
	}
	if end.Summary = strings.TrimSpace(end.Summary); end.Summary == "" {
		return Result{}, misusef("the summary is empty; say in a few sentences what was done.")
	}
	return Result{Output: "The run ends.", Structured: end, End: &end}, nil
}

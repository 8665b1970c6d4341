package server

import (
	"context"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/runner"
)

// Bounds of one answer: days or weeks, times names, and the others.
const (
	maxUsageDays  = 366
	maxUsageWeeks = 160
	maxUsageNames = 50
)

type usageOver struct {
	From string `query:"from" doc:"The first day, as 2026-11-01; left out: 30 days, or 26 weeks, before to."`
	To   string `query:"to" doc:"The last day; left out: today. All days are UTC's."`
	Unit string `query:"unit" enum:"day,week" default:"day" doc:"Weeks begin on Monday."`
	By   string `query:"by" enum:"model,repository,person" doc:"Left out: all together."`
	Most int    `query:"most" minimum:"1" maximum:"50" default:"8" doc:"So many names have figures of their own, those with the most tokens; the others are one."`
}

func (s *Server) usageRoutes(r *router) {
	add(r, route{name: "getUsageOverTime", method: "GET", path: "/v1/usage", failures: []int{400, 403},
		summary: "Say what models and machines were used for, day by day; deleted agents count too"}, s.usageOver)
}

func (s *Server) usageOver(ctx context.Context, w who, in *usageOver) (api.UsageOver, error) {
	q, err := in.query(time.Now().UTC())
	if err != nil {
		return api.UsageOver{}, err
	}
	all, err := s.runner.UsageOver(ctx, w.caller, q)
	if err != nil {
		return api.UsageOver{}, err
	}
	out := api.UsageOver{From: q.From.Format(time.DateOnly), To: q.To.Format(time.DateOnly), Unit: in.Unit, By: in.By, Items: []api.UsageTime{}}
	var total errand.Spent
	for _, u := range all {
		total = total.Add(u.Spent)
		out.Items = append(out.Items, api.UsageTime{Start: u.Start.Format(time.DateOnly), Name: u.Name, Others: u.Others, UsagePart: api.FromSpent(u.Spent)})
	}
	out.Total = api.FromSpent(total)
	return out, nil
}

// query reads what is asked for. Weeks are whole ones.
func (u usageOver) query(now time.Time) (runner.UsageQuery, error) {
	q := runner.UsageQuery{Weeks: u.Unit == "week", By: u.By, Most: min(u.Most, maxUsageNames)}
	most, few := maxUsageDays, 29
	if q.Weeks {
		most, few = maxUsageWeeks*7, 25*7
	}
	var err error
	if q.To, err = usageDay("to", u.To, now); err != nil {
		return q, err
	}
	if q.From, err = usageDay("from", u.From, q.To.AddDate(0, 0, -few)); err != nil {
		return q, err
	}
	if q.Weeks {
		q.From = q.From.AddDate(0, 0, -sinceMonday(q.From))
		q.To = q.To.AddDate(0, 0, 6-sinceMonday(q.To))
	}
	if days := int(q.To.Sub(q.From)/(24*time.Hour)) + 1; days < 1 || days > most {
		return q, errand.Errorf(errand.Invalid, "validation_error", "from %s to %s is no time for which usage can be told: at most %d days, or %d weeks with unit=week.",
			q.From.Format(time.DateOnly), q.To.Format(time.DateOnly), maxUsageDays, maxUsageWeeks)
	}
	return q, nil
}

func sinceMonday(day time.Time) int { return (int(day.Weekday()) + 6) % 7 }

// usageDay reads a day; "" is that of another time.
func usageDay(name, text string, other time.Time) (time.Time, error) {
	if text == "" {
		return other.Truncate(24 * time.Hour), nil
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return day, errand.Errorf(errand.Invalid, "validation_error", "%s must be a day such as 2026-11-28.", name)
	}
	return day, nil
}

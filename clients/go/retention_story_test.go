package client_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	client "lethe.example/client"
)

// Steps 35 to 40 of clients/CONFORMANCE.md.

func (s *story) law() client.RetentionPolicy {
	return client.RetentionPolicy{
		Schemas: []string{s.kind}, Start: client.StartCreation, Minimum: "P2Y", LegalBasis: "tax law",
	}
}

func (s *story) policies() []*client.RetentionPolicy {
	s.t.Helper()
	var out []*client.RetentionPolicy
	for policy, err := range s.officer.RetentionPolicies(s.ctx, s.parent) {
		s.fine(err)
		out = append(out, policy)
	}
	return out
}

func near(at time.Time) bool {
	return time.Since(at).Abs() < time.Minute
}

func (s *story) retentionPolicies() {
	create := func(c *client.Client, id string, policy client.RetentionPolicy) (*client.RetentionPolicy, error) {
		return c.CreateRetentionPolicy(s.ctx, s.parent, id, policy)
	}
	made, err := create(s.officer, "law", s.law())
	s.fine(err)
	want := s.law()
	// An empty time zone comes back as what it stands for.
	want.Name, want.TimeZone = s.parent+"/retentionPolicies/law", "UTC"
	want.Etag, want.UpdateTime = made.Etag, made.UpdateTime
	s.holds(made.Etag != "" && near(made.UpdateTime) && reflect.DeepEqual(*made, want), "another policy", made)
	s.lawAtFirst, s.lawNow = made, made
	read, err := s.officer.RetentionPolicy(s.ctx, made.Name)
	s.fine(err)
	s.holds(reflect.DeepEqual(read, made), "another policy", read)
	_, err = create(s.officer, "law", s.law())
	s.refused(err, client.ErrAlreadyExists)
	_, err = create(s.officer, "odd", client.RetentionPolicy{Start: client.StartCreation, Minimum: "P3Y", Maximum: "P1Y"})
	s.violated(err, "retention_policy.minimum")
	_, err = create(s.officer, "odd", client.RetentionPolicy{Start: client.StartCreation, Period: "canary"})
	s.violated(err, "retention_policy.period")
	s.hides("canary")
	ofNone := s.law()
	ofNone.Schemas = []string{s.parent + "/schemas/none"}
	for _, odd := range []struct {
		policy      client.RetentionPolicy
		field, told string
	}{
		{client.RetentionPolicy{Start: client.StartCreation, Maximum: "P1Y"}, "retention_policy.maximum", "law"},
		{ofNone, "retention_policy.schemas", ""},
	} {
		_, err = create(s.officer, "odd", odd.policy)
		own := s.refused(err, client.ErrPrecondition)
		s.holds(len(own.Violations) == 1 && own.Violations[0].Field == odd.field &&
			strings.Contains(own.Violations[0].Description, odd.told), "other violations", own.Violations)
	}
	_, err = create(s.application, "odd", s.law())
	s.refused(err, client.ErrPermissionDenied)
	for _, err := range s.application.RetentionPolicies(s.ctx, s.parent) {
		s.refused(err, client.ErrPermissionDenied)
	}
	s.holds(reflect.DeepEqual(s.policies(), []*client.RetentionPolicy{made}), "other policies")
}

func (s *story) updateAPartOfAPolicy() {
	part := client.RetentionPolicy{Name: s.lawNow.Name, Etag: s.lawNow.Etag, LegalBasis: "trade law"}
	changed, err := s.officer.UpdateRetentionPolicy(s.ctx, part, "legal_basis")
	s.fine(err)
	want := *s.lawNow
	want.LegalBasis, want.Etag, want.UpdateTime = "trade law", changed.Etag, changed.UpdateTime
	s.holds(changed.Etag != s.lawNow.Etag && reflect.DeepEqual(*changed, want), "another policy", changed)
	_, err = s.officer.UpdateRetentionPolicy(s.ctx, part, "legal_basis")
	s.refused(err, client.ErrStale)
	part.Etag = ""
	_, err = s.officer.UpdateRetentionPolicy(s.ctx, part, "legal_basis", "canary")
	s.violated(err, "update_mask.paths[1]")
	s.hides("canary")
	_, err = s.application.UpdateRetentionPolicy(s.ctx, part, "legal_basis")
	s.refused(err, client.ErrPermissionDenied)
	read, err := s.officer.RetentionPolicy(s.ctx, changed.Name)
	s.fine(err)
	s.holds(reflect.DeepEqual(read, changed), "another policy", read)
	s.lawNow = changed
}

func (s *story) explained(name string) *client.RetentionExplanation {
	s.t.Helper()
	out, err := s.application.ExplainRetention(s.ctx, name)
	s.fine(err)
	return out
}

// rebucketing is what the status says of the story's type; nil if nothing.
func (s *story) rebucketing() *client.RebucketingState {
	s.t.Helper()
	status, err := s.officer.RetentionStatus(s.ctx)
	s.fine(err)
	at := slices.IndexFunc(status.Rebucketing, func(r client.RebucketingState) bool { return r.Schema == s.kind })
	if at < 0 {
		return nil
	}
	return &status.Rebucketing[at]
}

// settled waits until every record of the tenant is in the bucket that the rules want.
func (s *story) settled() {
	s.t.Helper()
	isElsewhere := func(name string) bool {
		told := s.explained(name)
		return told.ExpireDate != told.PresentExpireDate
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if s.rebucketing() == nil && !slices.ContainsFunc(s.listed(client.Selection{}), isElsewhere) {
			return
		}
		s.holds(time.Now().Before(end), "records are not moved")
	}
}

func (s *story) previewed(date string) []client.RetentionForecast {
	s.t.Helper()
	var out []client.RetentionForecast
	for forecast, err := range s.officer.PreviewRetention(s.ctx, s.parent, date) {
		s.fine(err)
		out = append(out, forecast)
	}
	return out
}

// daysBetween counts the days from one date to a later one.
func (s *story) daysBetween(from, to string) int {
	s.t.Helper()
	first, err := time.Parse(time.DateOnly, from)
	s.fine(err)
	last, err := time.Parse(time.DateOnly, to)
	s.fine(err)
	return int(last.Sub(first) / (24 * time.Hour))
}

func (s *story) explainAndPreview() {
	made, err := s.create(client.Fields{"email": "keep@example.org"})
	s.fine(err)
	s.kept = made
	told := s.explained(made.Name)
	s.holds(len(told.Lines) == 2, "other lines", told)
	bySchema, byLaw := told.Lines[0], told.Lines[1]
	s.holds(bySchema.Rule == s.kind && bySchema.Effect == client.EffectPeriod && !bySchema.Decides &&
		bySchema.LegalBasis == "", "another line", bySchema)
	s.holds(byLaw.Rule == s.lawNow.Name && byLaw.Effect == client.EffectMinimum && byLaw.Decides &&
		byLaw.LegalBasis == "trade law", "another line", byLaw)
	years := s.daysBetween(bySchema.EndDate, byLaw.EndDate)
	s.holds(years == 365 || years == 366, "not a year later", told)
	for _, line := range told.Lines {
		day, err := time.Parse(time.DateOnly, line.EndDate)
		s.fine(err)
		// The day is over when the next one begins.
		s.holds(line.DueTime.Equal(day.AddDate(0, 0, 1)), "due at another time", line)
	}
	s.holds(told.ExpireDate == byLaw.EndDate && told.PresentExpireDate == byLaw.EndDate &&
		made.ExpireDate == byLaw.EndDate, "another day", told)
	_, err = s.operator.ExplainRetention(s.ctx, made.Name)
	s.refused(err, client.ErrPermissionDenied)
	_, err = s.application.ExplainRetention(s.ctx, s.parent+"/records/"+nobody)
	s.refused(err, client.ErrNotFound)
	s.holds(!errors.Is(err, client.ErrErased), "it was there")
	s.settled()
	for _, err := range s.officer.PreviewRetention(s.ctx, s.parent, "2000-01-01") {
		s.violated(err, "date")
	}
	s.holds(len(s.previewed(time.Now().UTC().Format(time.DateOnly))) == 0, "something goes today")
	count, seen := uint64(0), map[string]bool{}
	for _, one := range s.previewed(made.ExpireDate) {
		want := client.RetentionForecast{Schema: s.kind, ExpireDate: one.ExpireDate, RecordCount: one.RecordCount}
		s.holds(one == want && !seen[one.ExpireDate], "another forecast", one)
		count, seen[one.ExpireDate] = count+one.RecordCount, true
	}
	s.holds(count == uint64(len(s.listed(client.Selection{}))) && count > 5, "another count", count)
	for _, err := range s.application.PreviewRetention(s.ctx, s.parent, made.ExpireDate) {
		s.refused(err, client.ErrPermissionDenied)
	}
}

func (s *story) pauseAndResume() {
	before := s.kept.ExpireDate
	unfinished, err := s.officer.PauseRebucketing(s.ctx, s.parent)
	s.fine(err)
	s.holds(!unfinished, "there is something left to do")
	s.lawNow, err = s.officer.UpdateRetentionPolicy(s.ctx,
		client.RetentionPolicy{Name: s.lawNow.Name, Minimum: "P3Y"}, "minimum")
	s.fine(err)
	state := s.rebucketing()
	s.holds(state != nil && state.Paused, "it is not paused", state)
	told := s.explained(s.kept.Name)
	year := s.daysBetween(before, told.ExpireDate)
	s.holds(told.PresentExpireDate == before && (year == 365 || year == 366), "another day", told)
	staying := false
	for _, one := range s.previewed(before) {
		staying = staying || one.ExpireDate == before && one.RecordCount > 0 && one.StayingCount == one.RecordCount
	}
	s.holds(staying, "they do not stay")
	unfinished, err = s.officer.ResumeRebucketing(s.ctx, s.parent)
	s.fine(err)
	s.holds(unfinished, "there is nothing left to do")
	s.settled()
	s.holds(s.explained(s.kept.Name).PresentExpireDate == told.ExpireDate, "it was not moved")
}

func (s *story) statusRunClock() {
	status, err := s.officer.RetentionStatus(s.ctx)
	s.fine(err)
	s.holds(status.ClockState == client.ClockSound && near(status.DueByTime) && status.SweepInterval > 0 &&
		status.DueBucketCount == 0, "another status", status)
	run, err := s.officer.RunRetention(s.ctx, true)
	s.fine(err)
	s.holds(len(run.Runs) == 0 && run.FailedBucketCount == 0, "something is due", run)
	due, err := s.officer.ConfirmClock(s.ctx, time.Now())
	s.fine(err)
	s.holds(near(due), "another time", due)
	_, err = s.officer.ConfirmClock(s.ctx, time.Now().Add(time.Hour))
	s.refused(err, client.ErrPrecondition)
	_, err = s.application.RetentionStatus(s.ctx)
	s.refused(err, client.ErrPermissionDenied)
	_, err = s.application.RunRetention(s.ctx, true)
	s.refused(err, client.ErrPermissionDenied)
	_, err = s.application.ConfirmClock(s.ctx, time.Now())
	s.refused(err, client.ErrPermissionDenied)
}

func (s *story) deleteAPolicy() {
	name := s.lawNow.Name
	s.refused(s.officer.DeleteRetentionPolicy(s.ctx, name, s.lawAtFirst.Etag), client.ErrStale)
	s.refused(s.application.DeleteRetentionPolicy(s.ctx, name, ""), client.ErrPermissionDenied)
	s.fine(s.officer.DeleteRetentionPolicy(s.ctx, name, s.lawNow.Etag))
	_, err := s.officer.RetentionPolicy(s.ctx, name)
	s.refused(err, client.ErrNotFound)
	s.refused(s.officer.DeleteRetentionPolicy(s.ctx, name, ""), client.ErrNotFound)
	s.holds(len(s.policies()) == 0, "there are policies")
	lines := s.explained(s.kept.Name).Lines
	s.holds(len(lines) == 1 && lines[0].Rule == s.kind && lines[0].Decides, "other lines", lines)
	methods := map[string]bool{}
	for _, e := range s.entries(client.AuditQuery{Parent: s.parent}) {
		if e.Role == "privacy-officer" {
			methods[e.Method] = true
		}
		s.holds(e.Method != "ExplainRetention" || e.Role == "application" && e.Schema == s.kind, "another entry", e)
		methods["explained"] = methods["explained"] || e.Method == "ExplainRetention"
	}
	for _, method := range []string{
		"CreateRetentionPolicy", "UpdateRetentionPolicy", "GetRetentionPolicy", "ListRetentionPolicies",
		"PreviewRetention", "PauseRebucketing", "ResumeRebucketing", "DeleteRetentionPolicy", "explained",
	} {
		s.holds(methods[method], "the log lacks", method)
	}
}

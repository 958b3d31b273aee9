package client

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"lethe.example/client/internal/gen/lethev1"
)

// Every part has a value of its own, so that none can stand for another.
var wholePolicy = RetentionPolicy{
	Name:           "tenants/t/retentionPolicies/p",
	Schemas:        []string{"tenants/t/schemas/order", "tenants/t/schemas/person"},
	Classification: ClassSensitive,
	Purpose:        "billing",
	Start:          StartEvent,
	EventField:     "closed",
	Period:         "P3Y",
	GracePeriod:    "P30D",
	EndDate:        "2030-12-31",
	Minimum:        "P1Y",
	Maximum:        "P9Y",
	OpenEnded:      true,
	TimeZone:       "Asia/Shanghai",
	LegalBasis:     "PIPL 19",
	Description:    "for people",
	Etag:           "7",
	UpdateTime:     time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
}

func TestAPolicyComesBackAsItWasSent(t *testing.T) {
	wire, err := wholePolicy.toWire()
	check(t, err)
	set := 0
	wire.ProtoReflect().Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool {
		set++
		return true
	})
	if all := wire.ProtoReflect().Descriptor().Fields().Len(); set != all-1 {
		t.Errorf("%d of %d parts are sent; all but update_time should be", set, all)
	}
	wire.UpdateTime = timestamppb.New(wholePolicy.UpdateTime)
	if got := retentionPolicyOf(wire); !reflect.DeepEqual(*got, wholePolicy) {
		t.Errorf("%+v", got)
	}
	if got := retentionPolicyOf(&lethev1.RetentionPolicy{}); !reflect.DeepEqual(*got, RetentionPolicy{}) {
		t.Errorf("%+v", got)
	}
	_, err = RetentionPolicy{Start: "canary", Classification: "canary"}.toWire()
	own := (*Error)(nil)
	if !errors.As(err, &own) || !errors.Is(err, ErrInvalidArgument) || len(own.Violations) != 2 ||
		own.Violations[0].Field != "retention_policy.start" ||
		own.Violations[1].Field != "retention_policy.classification" {
		t.Error(err)
	}
}

func TestOfRetentionOnlyReadsAreMadeAgain(t *testing.T) {
	ctx, now := context.Background(), time.Now()
	last := func(_ any, err error) error { return err }
	calls := map[string]struct {
		attempts int
		call     func(*Client) error
	}{
		"CreateRetentionPolicy": {1, func(c *Client) error {
			return last(c.CreateRetentionPolicy(ctx, "t", "p", wholePolicy))
		}},
		"UpdateRetentionPolicy": {1, func(c *Client) error { return last(c.UpdateRetentionPolicy(ctx, wholePolicy)) }},
		"GetRetentionPolicy":    {4, func(c *Client) error { return last(c.RetentionPolicy(ctx, "p")) }},
		"ListRetentionPolicies": {4, func(c *Client) error {
			for _, err := range c.RetentionPolicies(ctx, "t") {
				return err
			}
			return nil
		}},
		"DeleteRetentionPolicy": {1, func(c *Client) error { return c.DeleteRetentionPolicy(ctx, "p", "") }},
		"ExplainRetention":      {4, func(c *Client) error { return last(c.ExplainRetention(ctx, "r")) }},
		"PreviewRetention": {4, func(c *Client) error {
			for _, err := range c.PreviewRetention(ctx, "t", "2030-12-31") {
				return err
			}
			return nil
		}},
		"GetRetentionStatus": {4, func(c *Client) error { return last(c.RetentionStatus(ctx)) }},
		"RunRetention":       {1, func(c *Client) error { return last(c.RunRetention(ctx, true)) }},
		"PauseRebucketing":   {1, func(c *Client) error { return last(c.PauseRebucketing(ctx, "t")) }},
		"ResumeRebucketing":  {1, func(c *Client) error { return last(c.ResumeRebucketing(ctx, "t")) }},
		"ConfirmClock":       {1, func(c *Client) error { return last(c.ConfirmClock(ctx, now)) }},
	}
	seen := map[string]int{}
	client := (&fake{retention: func(method string, _ any) (any, error) {
		seen[method]++
		return nil, told(codes.Unavailable, "UNAVAILABLE")
	}}).serve(t, Options{})
	methods := lethev1.File_lethe_v1_retention_proto.Services().ByName("RetentionService").Methods()
	for at := range methods.Len() {
		name := string(methods.Get(at).Name())
		one, known := calls[name]
		if !known {
			t.Errorf("there is no call for %s", name)
			continue
		}
		if err := one.call(client); !errors.Is(err, ErrUnavailable) || seen[name] != one.attempts {
			t.Errorf("%s: %d attempts, %v", name, seen[name], err)
		}
	}
}

func TestAPreviewAddsUpItsPartsOverAllPages(t *testing.T) {
	part := func(schema, date string, counts ...uint64) *lethev1.RetentionForecast {
		counts = append(counts, 0, 0, 0, 0)
		return &lethev1.RetentionForecast{
			Schema: schema, ExpireDate: date, RecordCount: counts[0], StayingCount: counts[1], HeldCount: counts[2],
			WithoutBasisCount: counts[3], DamagedCount: counts[4],
		}
	}
	pages := []*lethev1.PreviewRetentionResponse{
		{NextPageToken: "a", Forecasts: []*lethev1.RetentionForecast{
			part("order", "2030-01-01", 5, 4, 3, 2, 1), part("order", "2030-01-01", 10, 20, 30, 40, 50),
		}},
		{NextPageToken: "b"},
		// The same day once more after another one: nothing says that the parts of a day follow each other.
		{NextPageToken: "c", Forecasts: []*lethev1.RetentionForecast{
			part("order", "", 7), part("person", "2030-01-01", 1, 0, 0, 1),
		}},
		{Forecasts: []*lethev1.RetentionForecast{part("order", "2030-01-01", 100)}},
	}
	want := []RetentionForecast{
		{"order", "2030-01-01", 115, 24, 33, 42, 51}, {"order", "", 7, 0, 0, 0, 0}, {"person", "2030-01-01", 1, 0, 0, 1, 0},
	}
	var tokens []string
	breaksAt := -1
	client := (&fake{retention: func(_ string, request any) (any, error) {
		asked := request.(*lethev1.PreviewRetentionRequest)
		if len(tokens) == breaksAt {
			return nil, told(codes.Internal, "")
		}
		tokens = append(tokens, asked.GetPageToken())
		if asked.GetParent() != "tenants/t" || asked.GetDate() != "2031-01-01" {
			t.Error(asked)
		}
		return pages[len(tokens)-1], nil
	}}).serve(t, Options{})
	var got []RetentionForecast
	for forecast, err := range client.PreviewRetention(context.Background(), "tenants/t", "2031-01-01") {
		check(t, err)
		got = append(got, forecast)
	}
	if !slices.Equal(got, want) || !slices.Equal(tokens, []string{"", "a", "b", "c"}) {
		t.Error(got, tokens)
	}
	// One that breaks gives no sums of a part.
	tokens, breaksAt = nil, 2
	count := 0
	for _, err := range client.PreviewRetention(context.Background(), "tenants/t", "2031-01-01") {
		if count++; err == nil {
			t.Error("there is a sum")
		}
	}
	if count != 1 {
		t.Error(count)
	}
	// Who has seen enough is not given more.
	tokens, breaksAt = nil, -1
	for range client.PreviewRetention(context.Background(), "tenants/t", "2031-01-01") {
		break
	}
}

func TestWhatIsSaidOfRetentionArrives(t *testing.T) {
	moment := time.Date(2030, 12, 31, 8, 30, 0, 250e6, time.UTC)
	wire := timestamppb.New(moment)
	var asked any
	var answer any
	client := (&fake{retention: func(_ string, request any) (any, error) {
		asked = request
		return answer, nil
	}}).serve(t, Options{})
	ctx := context.Background()

	answer = &lethev1.ExplainRetentionResponse{
		ExpireDate: "2031-01-01", PresentExpireDate: "2030-01-01",
		Lines: []*lethev1.RetentionLine{{
			Rule: "r", Effect: lethev1.RetentionEffect_RETENTION_EFFECT_END_DATE, EndDate: "2030-12-31", DueTime: wire,
			Decides: true, LegalBasis: "b",
		}, {Effect: lethev1.RetentionEffect_RETENTION_EFFECT_OPEN_ENDED}},
	}
	explained, err := client.ExplainRetention(ctx, "n")
	check(t, err)
	if want := (&RetentionExplanation{"2031-01-01", "2030-01-01", []RetentionLine{
		{"r", EffectEndDate, "2030-12-31", moment, true, "b"}, {Effect: EffectOpenEnded},
	}}); !reflect.DeepEqual(explained, want) || asked.(*lethev1.ExplainRetentionRequest).GetName() != "n" {
		t.Errorf("%+v", explained)
	}

	answer = &lethev1.GetRetentionStatusResponse{
		DueByTime: wire, ClockState: lethev1.ClockState_CLOCK_STATE_UNCONFIRMED, SweepIntervalSeconds: 60,
		DueBucketCount: 1, ClosedBucketCount: 2, ClosedRecordCount: 3, ErasedBucketCount: 4, ErasedRecordCount: 5,
		LatenessP50Millis: 1500, LatenessP99Millis: 2500,
		Rebucketing: []*lethev1.RebucketingState{{Schema: "s", Percent: 40, Paused: true}},
		HoldCount:   6, PostponedErasureCount: 7,
	}
	status, err := client.RetentionStatus(ctx)
	check(t, err)
	if want := (&RetentionStatus{
		moment, ClockUnconfirmed, time.Time{}, time.Minute, 1, 2, 3, 4, 5, 1500 * time.Millisecond,
		2500 * time.Millisecond, []RebucketingState{{"s", 40, true}}, 6, 7,
	}); !reflect.DeepEqual(status, want) {
		t.Errorf("%+v", status)
	}

	run := &lethev1.RetentionRun{Schema: "s", ExpireDate: "2030-12-31", RecordCount: 3, StayingCount: 2}
	answer = &lethev1.RunRetentionResponse{Runs: []*lethev1.RetentionRun{run}}
	runs, err := client.RunRetention(ctx, true)
	check(t, err)
	dry := asked.(*lethev1.RunRetentionRequest).GetDryRun()
	if want := []RetentionRun{{"s", "2030-12-31", 3, 2, nil}}; !dry || !slices.Equal(runs.Runs, want) {
		t.Errorf("%v %+v", dry, runs)
	}
	run.Receipt = &lethev1.ErasureReceipt{Name: "b", Reason: lethev1.ErasureReason_ERASURE_REASON_MOVED}
	answer = &lethev1.RunRetentionResponse{Runs: []*lethev1.RetentionRun{run}, FailedBucketCount: 4}
	runs, err = client.RunRetention(ctx, false)
	check(t, err)
	dry = asked.(*lethev1.RunRetentionRequest).GetDryRun()
	receipt := runs.Runs[0].Receipt
	if dry || runs.FailedBucketCount != 4 || receipt.Name != "b" || receipt.Reason != ReasonMoved {
		t.Errorf("%v %+v", dry, runs)
	}

	answer = &lethev1.PauseRebucketingResponse{Unfinished: true}
	unfinished, err := client.PauseRebucketing(ctx, "t")
	check(t, err)
	if !unfinished || asked.(*lethev1.PauseRebucketingRequest).GetParent() != "t" {
		t.Error(asked)
	}
	answer = &lethev1.ResumeRebucketingResponse{Unfinished: true}
	unfinished, err = client.ResumeRebucketing(ctx, "t")
	check(t, err)
	if !unfinished || asked.(*lethev1.ResumeRebucketingRequest).GetParent() != "t" {
		t.Error(asked)
	}
	answer = &lethev1.ConfirmClockResponse{DueByTime: timestamppb.New(time.UnixMilli(5))}
	due, err := client.ConfirmClock(ctx, moment)
	check(t, err)
	if !due.Equal(time.UnixMilli(5)) || !asked.(*lethev1.ConfirmClockRequest).GetTime().AsTime().Equal(moment) {
		t.Error(due, asked)
	}
}

func TestTheNamesOfRetentionAreThoseOfTheContract(t *testing.T) {
	for _, one := range []struct {
		enum   protoreflect.EnumDescriptor
		prefix string
		ours   []string
	}{
		{lethev1.RetentionStart(0).Descriptor(), "RETENTION_START_", []string{
			string(StartCreation), string(StartLastUse), string(StartEvent),
		}},
		{lethev1.RetentionEffect(0).Descriptor(), "RETENTION_EFFECT_", []string{
			string(EffectPeriod), string(EffectEndDate), string(EffectMaximum), string(EffectMinimum),
			string(EffectOpenEnded),
		}},
		{lethev1.ClockState(0).Descriptor(), "CLOCK_STATE_", []string{
			string(ClockSound), string(ClockAhead), string(ClockBehind), string(ClockUnconfirmed),
		}},
	} {
		var theirs []string
		for at := 1; at < one.enum.Values().Len(); at++ {
			theirs = append(theirs, enumName(string(one.enum.Values().Get(at).Name()), one.prefix))
		}
		if !slices.Equal(theirs, one.ours) {
			t.Errorf("%v instead of %v", one.ours, theirs)
		}
	}
}

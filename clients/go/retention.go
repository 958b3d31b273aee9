package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"lethe.example/client/internal/gen/lethev1"
)

// RetentionStart says what a policy's Period and Minimum are counted from.
type RetentionStart string

// The starts.
const (
	StartCreation RetentionStart = "CREATION"
	// StartLastUse is the last time that an application or support read the record, or changed it.
	StartLastUse RetentionStart = "LAST_USE"
	// StartEvent is the date in EventField.
	StartEvent RetentionStart = "EVENT"
)

// RetentionPolicy is a rule on how long records are kept. Durations are ISO 8601, of whole years, months, weeks or days:
// `P3Y`. Of all rules about a record the earliest end counts, unless a Minimum is later. A record is erased within a day
// after that day, and the grace period, are over in the rule's time zone.
type RetentionPolicy struct {
	// Name is `tenants/{tenant}/retentionPolicies/{policy}`. Not needed to create one.
	Name string
	// Schemas are the record types that it is about, `tenants/{tenant}/schemas/{type}`; empty means all.
	Schemas []string
	// Classification: only records that hold a value of this class; empty means any.
	Classification Classification
	// Purpose: only records that hold a value of a field whose purposes name this one.
	Purpose string
	// Start: the vault creates no policy without one.
	Start RetentionStart
	// EventField is a DATE field. With StartEvent, and only then.
	EventField string
	// Period is how long a record is kept from the start.
	Period string
	// GracePeriod is how long after the end of Period or EndDate the record is erased.
	GracePeriod string
	// EndDate is the last day, whenever the period ends; `2030-12-31`.
	EndDate string
	// Minimum, from the start: not to be erased before. Wins over every end.
	Minimum string
	// Maximum, from creation: not to be kept longer.
	Maximum string
	// OpenEnded: until its event has come, or if nothing ends it, a record is kept until it is erased by request.
	OpenEnded bool
	// TimeZone is an IANA name, `Asia/Shanghai`; empty means UTC.
	TimeZone string
	// LegalBasis is the law or contract that it rests on. Previews count records whose rule names none.
	LegalBasis  string
	Description string
	// Etag marks the version. Given back in an update it must be the current one; empty means any.
	Etag string
	// UpdateTime is set by the vault.
	UpdateTime time.Time
}

// RetentionEffect says what a rule does to a record.
type RetentionEffect string

// The effects.
const (
	// EffectPeriod: it ends a period after its start.
	EffectPeriod RetentionEffect = "PERIOD"
	// EffectEndDate: it ends on a day.
	EffectEndDate RetentionEffect = "END_DATE"
	// EffectMaximum: it may not be kept longer.
	EffectMaximum RetentionEffect = "MAXIMUM"
	// EffectMinimum: it may not be erased earlier.
	EffectMinimum RetentionEffect = "MINIMUM"
	// EffectOpenEnded: it sets no end, or none before its event comes.
	EffectOpenEnded RetentionEffect = "OPEN_ENDED"
)

// RetentionLine is what one rule says of a record.
type RetentionLine struct {
	// Rule is `tenants/{tenant}/retentionPolicies/{policy}`, or `tenants/{tenant}/schemas/{type}` for the schema's own.
	Rule   string
	Effect RetentionEffect
	// EndDate is the last day in the rule's time zone, without its grace period; empty if there is none yet.
	EndDate string
	// DueTime is when that day, and the grace period, is over; zero if there is none yet.
	DueTime time.Time
	// Decides says whether it is this rule that decides.
	Decides    bool
	LegalBasis string
}

// RetentionExplanation is what each rule says of a record, and what comes of it.
type RetentionExplanation struct {
	// ExpireDate is the day, UTC, after which the record goes by the rules of now; empty if open-ended.
	ExpireDate string
	// PresentExpireDate is the day of the bucket that it is in; another one until it is moved there.
	PresentExpireDate string
	Lines             []RetentionLine
}

// RetentionForecast counts records of one type that expire on one day.
type RetentionForecast struct {
	// Schema is `tenants/{tenant}/schemas/{type}`.
	Schema string
	// ExpireDate is UTC; empty if open-ended.
	ExpireDate  string
	RecordCount uint64
	// StayingCount: of these, records that the rules of now want to keep longer. They move out before the day is over.
	StayingCount uint64
	// HeldCount: of these, records under a legal hold. They move out too.
	HeldCount uint64
	// WithoutBasisCount: of these, records whose deciding rule names no legal basis.
	WithoutBasisCount uint64
	// DamagedCount: of these, records that do not open.
	DamagedCount uint64
}

// ClockState says how the wall clock compares with the vault's own count of time.
type ClockState string

// The states of the clock.
const (
	// ClockSound: they agree.
	ClockSound ClockState = "SOUND"
	// ClockAhead: the wall clock was set forward; the vault goes by its own count.
	ClockAhead ClockState = "AHEAD"
	// ClockBehind: the wall clock was set back; nothing is due before it says so too.
	ClockBehind ClockState = "BEHIND"
	// ClockUnconfirmed: after a restart of the machine the wall clock is so far ahead that [Client.ConfirmClock] must say
	// that it is right.
	ClockUnconfirmed ClockState = "UNCONFIRMED"
)

// RebucketingState is the way of a type's records to the buckets that changed rules want.
type RebucketingState struct {
	// Schema is `tenants/{tenant}/schemas/{type}`.
	Schema string
	// Percent is how much is done, 0 to 99.
	Percent int
	Paused  bool
}

// RetentionStatus says how sweeps, the clock and the work after changed policies are doing.
type RetentionStatus struct {
	// DueByTime: what must be due by now to go.
	DueByTime  time.Time
	ClockState ClockState
	// LastSweepTime is zero before the first.
	LastSweepTime time.Time
	SweepInterval time.Duration
	// DueBucketCount are the buckets that are due and not erased yet.
	DueBucketCount uint64
	// ClosedBucketCount are the buckets that are closed, ClosedRecordCount the records that will go with them.
	ClosedBucketCount, ClosedRecordCount uint64
	// ErasedBucketCount and ErasedRecordCount are those since the start of the vault.
	ErasedBucketCount, ErasedRecordCount uint64
	// LatenessP50 and LatenessP99 say how late buckets went; 0 if none went yet.
	LatenessP50, LatenessP99 time.Duration
	Rebucketing              []RebucketingState
	// HoldCount are the legal holds in force, PostponedErasureCount the erasures that wait for them to end.
	HoldCount, PostponedErasureCount uint64
}

// RetentionRun are the records of one type and day that went, or would go.
type RetentionRun struct {
	// Schema is `tenants/{tenant}/schemas/{type}`.
	Schema      string
	ExpireDate  string
	RecordCount uint64
	// StayingCount is of a dry run: records that would move out before.
	StayingCount uint64
	// Receipt is nil in a dry run.
	Receipt *Receipt
}

// RetentionRuns is what a run erased, or would erase.
type RetentionRuns struct {
	Runs []RetentionRun
	// FailedBucketCount are the buckets that are due and could not be erased; the log of the daemon says why.
	FailedBucketCount uint64
}

// CreateRetentionPolicy creates a policy of this id. It is sent once: it carries no request id.
func (c *Client) CreateRetentionPolicy(
	ctx context.Context, parent, id string, policy RetentionPolicy,
) (*RetentionPolicy, error) {
	wire, err := policy.toWire()
	if err != nil {
		return nil, err
	}
	// Which version it follows makes sense in an update only.
	wire.Name, wire.Etag = "", ""
	answer, err := call(ctx, c, never, c.retention.CreateRetentionPolicy, &lethev1.CreateRetentionPolicyRequest{
		Parent: parent, RetentionPolicyId: id, RetentionPolicy: wire,
	})
	if err != nil {
		return nil, err
	}
	return retentionPolicyOf(answer.GetRetentionPolicy()), nil
}

// UpdateRetentionPolicy replaces the policy of this name; with a mask only the parts that it names, such as `period`. With
// an Etag only if it did not change since. It is sent once.
func (c *Client) UpdateRetentionPolicy(
	ctx context.Context, policy RetentionPolicy, mask ...string,
) (*RetentionPolicy, error) {
	wire, err := policy.toWire()
	if err != nil {
		return nil, err
	}
	answer, err := call(ctx, c, never, c.retention.UpdateRetentionPolicy,
		&lethev1.UpdateRetentionPolicyRequest{RetentionPolicy: wire, UpdateMask: maskOf(mask)})
	if err != nil {
		return nil, err
	}
	return retentionPolicyOf(answer.GetRetentionPolicy()), nil
}

// RetentionPolicy returns the policy of this name.
func (c *Client) RetentionPolicy(ctx context.Context, name string) (*RetentionPolicy, error) {
	answer, err := call(ctx, c, safely, c.retention.GetRetentionPolicy,
		&lethev1.GetRetentionPolicyRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return retentionPolicyOf(answer.GetRetentionPolicy()), nil
}

// RetentionPolicies gives the policies of a tenant, by name.
func (c *Client) RetentionPolicies(ctx context.Context, parent string) iter.Seq2[*RetentionPolicy, error] {
	return paged(func(token string) ([]*RetentionPolicy, string, error) {
		answer, err := call(ctx, c, safely, c.retention.ListRetentionPolicies,
			&lethev1.ListRetentionPoliciesRequest{Parent: parent, PageToken: token})
		if err != nil {
			return nil, "", err
		}
		return each(answer.GetRetentionPolicies(), retentionPolicyOf), answer.GetNextPageToken(), nil
	})
}

// DeleteRetentionPolicy deletes the policy of this name. etag, unless empty, must be the current one. It is sent once.
func (c *Client) DeleteRetentionPolicy(ctx context.Context, name, etag string) error {
	_, err := call(ctx, c, never, c.retention.DeleteRetentionPolicy,
		&lethev1.DeleteRetentionPolicyRequest{Name: name, Etag: etag})
	return err
}

// ExplainRetention says what each rule says of a record, and which of them decides. For those who may read the record.
func (c *Client) ExplainRetention(ctx context.Context, name string) (*RetentionExplanation, error) {
	answer, err := call(ctx, c, safely, c.retention.ExplainRetention, &lethev1.ExplainRetentionRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return &RetentionExplanation{
		ExpireDate:        answer.GetExpireDate(),
		PresentExpireDate: answer.GetPresentExpireDate(),
		Lines: each(answer.GetLines(), func(l *lethev1.RetentionLine) RetentionLine {
			return RetentionLine{
				Rule:       l.GetRule(),
				Effect:     RetentionEffect(enumName(l.GetEffect().String(), "RETENTION_EFFECT_")),
				EndDate:    l.GetEndDate(),
				DueTime:    timeOf(l.GetDueTime()),
				Decides:    l.GetDecides(),
				LegalBasis: l.GetLegalBasis(),
			}
		}),
	}, nil
}

// PreviewRetention counts what will go by the end of a day (`2030-12-31`, UTC, today or later), and what has no end. It
// changes nothing. All pages are read before the first sum is given, since parts about one type and day may be pages
// apart: they are added up. A context without a deadline gives each page a time of its own.
func (c *Client) PreviewRetention(ctx context.Context, parent, date string) iter.Seq2[RetentionForecast, error] {
	type day struct{ schema, expireDate string }
	return func(yield func(RetentionForecast, error) bool) {
		var order []day
		sums := map[day]RetentionForecast{}
		parts := paged(func(token string) ([]*lethev1.RetentionForecast, string, error) {
			answer, err := call(ctx, c, safely, c.retention.PreviewRetention,
				&lethev1.PreviewRetentionRequest{Parent: parent, Date: date, PageToken: token})
			return answer.GetForecasts(), answer.GetNextPageToken(), err
		})
		for part, err := range parts {
			if err != nil {
				yield(RetentionForecast{}, err)
				return
			}
			at := day{part.GetSchema(), part.GetExpireDate()}
			sum, known := sums[at]
			if !known {
				order = append(order, at)
			}
			sums[at] = RetentionForecast{
				Schema:            at.schema,
				ExpireDate:        at.expireDate,
				RecordCount:       sum.RecordCount + part.GetRecordCount(),
				StayingCount:      sum.StayingCount + part.GetStayingCount(),
				HeldCount:         sum.HeldCount + part.GetHeldCount(),
				WithoutBasisCount: sum.WithoutBasisCount + part.GetWithoutBasisCount(),
				DamagedCount:      sum.DamagedCount + part.GetDamagedCount(),
			}
		}
		for _, at := range order {
			if !yield(sums[at], nil) {
				return
			}
		}
	}
}

// RetentionStatus says how sweeps, the clock and the work after changed policies are doing.
func (c *Client) RetentionStatus(ctx context.Context) (*RetentionStatus, error) {
	answer, err := call(ctx, c, safely, c.retention.GetRetentionStatus, &lethev1.GetRetentionStatusRequest{})
	if err != nil {
		return nil, err
	}
	return &RetentionStatus{
		DueByTime:         timeOf(answer.GetDueByTime()),
		ClockState:        ClockState(enumName(answer.GetClockState().String(), "CLOCK_STATE_")),
		LastSweepTime:     timeOf(answer.GetLastSweepTime()),
		SweepInterval:     time.Duration(answer.GetSweepIntervalSeconds()) * time.Second,
		DueBucketCount:    answer.GetDueBucketCount(),
		ClosedBucketCount: answer.GetClosedBucketCount(),
		ClosedRecordCount: answer.GetClosedRecordCount(),
		ErasedBucketCount: answer.GetErasedBucketCount(),
		ErasedRecordCount: answer.GetErasedRecordCount(),
		LatenessP50:       time.Duration(answer.GetLatenessP50Millis()) * time.Millisecond,
		LatenessP99:       time.Duration(answer.GetLatenessP99Millis()) * time.Millisecond,
		Rebucketing: each(answer.GetRebucketing(), func(r *lethev1.RebucketingState) RebucketingState {
			return RebucketingState{r.GetSchema(), int(r.GetPercent()), r.GetPaused()}
		}),
		HoldCount:             answer.GetHoldCount(),
		PostponedErasureCount: answer.GetPostponedErasureCount(),
	}, nil
}

// RunRetention erases what is due now, of all tenants, without waiting for the next sweep; a dry run only says what would
// go. It is sent once, dry or not; made again by you it erases what is due then.
func (c *Client) RunRetention(ctx context.Context, dryRun bool) (*RetentionRuns, error) {
	answer, err := call(ctx, c, never, c.retention.RunRetention, &lethev1.RunRetentionRequest{DryRun: dryRun})
	if err != nil {
		return nil, err
	}
	return &RetentionRuns{each(answer.GetRuns(), retentionRunOf), answer.GetFailedBucketCount()}, nil
}

// PauseRebucketing stops bringing a tenant's records to the buckets that changed policies want. It returns whether
// anything is left to do. Nothing goes early meanwhile, but what is to go earlier may go late. It is sent once.
func (c *Client) PauseRebucketing(ctx context.Context, parent string) (bool, error) {
	answer, err := call(ctx, c, never, c.retention.PauseRebucketing, &lethev1.PauseRebucketingRequest{Parent: parent})
	return answer.GetUnfinished(), err
}

// ResumeRebucketing goes on with it. It returns whether anything is left to do. It is sent once.
func (c *Client) ResumeRebucketing(ctx context.Context, parent string) (bool, error) {
	answer, err := call(ctx, c, never, c.retention.ResumeRebucketing, &lethev1.ResumeRebucketingRequest{Parent: parent})
	return answer.GetUnfinished(), err
}

// ConfirmClock has the vault believe its clock as it is, if it is no more than a minute from `now`, which somebody read
// from a clock that is right. It returns what must be due by now to go. It is sent once.
func (c *Client) ConfirmClock(ctx context.Context, now time.Time) (time.Time, error) {
	answer, err := call(ctx, c, never, c.retention.ConfirmClock,
		&lethev1.ConfirmClockRequest{Time: timestamppb.New(now)})
	return timeOf(answer.GetDueByTime()), err
}

func (p RetentionPolicy) toWire() (*lethev1.RetentionPolicy, error) {
	var faults []Violation
	start, known := lethev1.RetentionStart_value["RETENTION_START_"+string(p.Start)]
	if !known && p.Start != "" {
		faults = append(faults, Violation{"retention_policy.start", "is not a known start"})
	}
	class, known := lethev1.Classification_value["CLASSIFICATION_"+string(p.Classification)]
	if !known && p.Classification != "" {
		faults = append(faults, Violation{"retention_policy.classification", "is not a known classification"})
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	return &lethev1.RetentionPolicy{
		Name:           p.Name,
		Schemas:        p.Schemas,
		Classification: lethev1.Classification(class),
		Purpose:        p.Purpose,
		Start:          lethev1.RetentionStart(start),
		EventField:     p.EventField,
		Period:         p.Period,
		GracePeriod:    p.GracePeriod,
		EndDate:        p.EndDate,
		Minimum:        p.Minimum,
		Maximum:        p.Maximum,
		OpenEnded:      p.OpenEnded,
		TimeZone:       p.TimeZone,
		LegalBasis:     p.LegalBasis,
		Description:    p.Description,
		Etag:           p.Etag,
	}, nil
}

func retentionPolicyOf(wire *lethev1.RetentionPolicy) *RetentionPolicy {
	class, start := Classification(""), RetentionStart("")
	if wire.GetClassification() != lethev1.Classification_CLASSIFICATION_UNSPECIFIED {
		class = classOf(wire.GetClassification())
	}
	if wire.GetStart() != lethev1.RetentionStart_RETENTION_START_UNSPECIFIED {
		start = RetentionStart(enumName(wire.GetStart().String(), "RETENTION_START_"))
	}
	return &RetentionPolicy{
		Name:           wire.GetName(),
		Schemas:        wire.GetSchemas(),
		Classification: class,
		Purpose:        wire.GetPurpose(),
		Start:          start,
		EventField:     wire.GetEventField(),
		Period:         wire.GetPeriod(),
		GracePeriod:    wire.GetGracePeriod(),
		EndDate:        wire.GetEndDate(),
		Minimum:        wire.GetMinimum(),
		Maximum:        wire.GetMaximum(),
		OpenEnded:      wire.GetOpenEnded(),
		TimeZone:       wire.GetTimeZone(),
		LegalBasis:     wire.GetLegalBasis(),
		Description:    wire.GetDescription(),
		Etag:           wire.GetEtag(),
		UpdateTime:     timeOf(wire.GetUpdateTime()),
	}
}

func retentionRunOf(wire *lethev1.RetentionRun) RetentionRun {
	run := RetentionRun{
		Schema:       wire.GetSchema(),
		ExpireDate:   wire.GetExpireDate(),
		RecordCount:  wire.GetRecordCount(),
		StayingCount: wire.GetStayingCount(),
	}
	if wire.GetReceipt() != nil {
		run.Receipt = receiptOf(wire.GetReceipt())
	}
	return run
}

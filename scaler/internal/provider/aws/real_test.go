package aws

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/provider/providertest"
)

var realAccount = flag.Bool("aws.real", false, "test on a real account of AWS, which costs some cents (make test-aws)")

// TestRealAccount is the contract on AWS itself. Asked for without what it needs, it
// fails and says what that is.
func TestRealAccount(t *testing.T) {
	if !*realAccount {
		t.Skip("make test-aws tests on a real account")
	}
	missing := []string(nil)
	need := func(key string) string {
		if os.Getenv(key) == "" {
			missing = append(missing, key)
		}
		return os.Getenv(key)
	}
	if os.Getenv("FARMHAND_AWS_TEST") != "yes" {
		missing = append(missing, "FARMHAND_AWS_TEST=yes")
	}
	o := Options{
		Farm: fmt.Sprintf("farmhand-test-%d", time.Now().Unix()), Log: zaptest.NewLogger(t),
		AWS: farmfile.AWS{
			Region: need("FARMHAND_AWS_REGION"), Subnets: strings.Split(need("FARMHAND_AWS_SUBNETS"), ","),
			SecurityGroups: strings.Split(need("FARMHAND_AWS_SECURITY_GROUPS"), ","), Directory: "/opt/farmhand", DiskType: "gp3",
		},
		Files: func(s provider.Spec) (Files, error) {
			return Files{Places{"/opt/farmhand"}.Config(): "name: " + s.Name + "\n"}, nil
		},
		Deliver: func(context.Context, string, Files) error { return nil },
	}
	image, size := need("FARMHAND_AWS_IMAGE"), need("FARMHAND_AWS_SIZE")
	if len(missing) > 0 {
		t.Fatalf("set %s; docs/AWS.md says what they are", strings.Join(missing, ", "))
	}
	p := opened(t, o)
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), endLimit)
		defer stop()
		all, err := p.List(ctx)
		if err != nil {
			t.Errorf("what is left is not known: look for the tag %s=%s: %v", tagFarm, o.Farm, err)
		}
		for _, i := range all {
			if err := p.Terminate(ctx, i.Name); err != nil {
				t.Errorf("%s is left: look for the tag %s=%s: %v", i.Name, tagFarm, o.Farm, err)
			}
		}
	})
	providertest.Contract(t, p, func() provider.Provider { return opened(t, o) }, func(s *provider.Spec) {
		s.Role.Image, s.Role.Size = image, size
	})
}

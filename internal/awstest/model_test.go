package awstest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestRequestsAreReadByTheModel(t *testing.T) {
	s := New(t)
	ec2, elb := s.models["ec2"], s.models["elasticloadbalancing"]
	form := func(text string) url.Values {
		values, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	in, err := ec2.request("RunInstances", form("MinCount=1&MaxCount=2&SecurityGroupId.1=sg-1&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a"))
	if err != nil || in["MaxCount"] != 2 || texts(in["SecurityGroupIds"])[0] != "sg-1" || asList(in["TagSpecifications"])[0].(Fields)["ResourceType"] != "instance" {
		t.Errorf("read %v, %v", in, err)
	}
	in, err = elb.request("RegisterTargets", form("TargetGroupArn=arn&Targets.member.1.Id=i-1&Targets.member.1.Port=80"))
	if err != nil || asList(in["Targets"])[0].(Fields)["Port"] != 80 {
		t.Errorf("read %v, %v", in, err)
	}
	for text, says := range map[string]string{
		"MinCount=1": "lacks MaxCount",
		"MinCount=1&MaxCount=1&SecurityGroupIds.1=sg-1":                       "no parameters SecurityGroupIds.1",
		"MinCount=one&MaxCount=1":                                             "no number",
		"MinCount=1&MaxCount=1&InstanceType=x9.none":                          "which is none of InstanceType",
		"MinCount=1&MaxCount=1&DryRun=perhaps":                                "neither true nor false",
		"MinCount=1&MaxCount=1&SecurityGroupId.1=a&SecurityGroupId.3=b":       "no parameters SecurityGroupId.3",
		"MinCount=1&MaxCount=1&MetadataOptions.HttpTokens=must":               "which is none of",
		"MinCount=1&MaxCount=1&TagSpecification.1.ResourceType=no-such-thing": "which is none of ResourceType",
	} {
		if in, err := ec2.request("RunInstances", form(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v; want %q", text, in, err, says)
		}
	}
}

func TestAnswersAreWrittenByTheModel(t *testing.T) {
	m := New(t).models["ec2"]
	text, err := m.reply("TerminateInstances", Fields{"TerminatingInstances": []any{Fields{"InstanceId": "i-<1>"}}})
	if err != nil || !strings.Contains(text, "<instancesSet><item><instanceId>i-&lt;1&gt;</instanceId></item></instancesSet>") {
		t.Errorf("%s, %v", text, err)
	}
	for says, out := range map[string]Fields{
		"which the model has not": {"TerminatedInstances": []any{}},
		"the model has list":      {"TerminatingInstances": "i-1"},
		"which is none of":        {"TerminatingInstances": []any{Fields{"CurrentState": Fields{"Name": "dead"}}}},
		"the model has integer":   {"TerminatingInstances": []any{Fields{"CurrentState": Fields{"Code": "48"}}}},
	} {
		if text, err := m.reply("TerminateInstances", out); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %s, %v; want %q", out, text, err, says)
		}
	}
}

func TestWhatIsNotSignedIsRefused(t *testing.T) {
	s := New(t)
	r, err := http.PostForm(s.URL, url.Values{"Action": {"DescribeInstances"}, "Version": {"2016-11-15"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Body.Close(); err != nil || r.StatusCode != http.StatusUnauthorized || s.Calls("DescribeInstances") != 0 {
		t.Errorf("%s, %v", r.Status, err)
	}
}

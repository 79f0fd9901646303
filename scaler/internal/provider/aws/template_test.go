package aws

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"farmhand/internal/awstest"
	"farmhand/scaler/internal/farmfile"
	"farmhand/scaler/internal/provider"
	"farmhand/scaler/internal/provider/providertest"
)

// settings is what a farm file does not know, and some things that it does.
func settings() awstest.Fields {
	return awstest.Fields{
		"ImageId": "ami-0000000000000feed", "InstanceType": "t2.nano", "KeyName": "theirs", "UserData": "IyEvYmluL3NoCg==", "DisableApiTermination": true,
		"Monitoring": awstest.Fields{"Enabled": true}, "Placement": awstest.Fields{"GroupName": "near", "Tenancy": "dedicated"},
		"MetadataOptions":     awstest.Fields{"HttpTokens": "optional", "HttpEndpoint": "disabled", "HttpPutResponseHopLimit": 2, "InstanceMetadataTags": "enabled"},
		"BlockDeviceMappings": []any{awstest.Fields{"DeviceName": "/dev/xvda", "Ebs": awstest.Fields{"Encrypted": true, "VolumeSize": 20}}},
	}
}

// templated has the role web launched by a template.
func templated(t *testing.T, name, version string, market farmfile.Market) (*awstest.Server, Options) {
	s := awstest.New(t)
	o := options(t, s)
	o.Roles = map[string]farmfile.AWSRole{"web": {Market: market, LaunchTemplate: farmfile.LaunchTemplate{Name: name, Version: version}}}
	return s, o
}

// launchedID is the id of the only instance.
func launchedID(t *testing.T, p *Provider) string {
	t.Helper()
	i, err := p.find(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	return *i.InstanceId
}

func TestContractByLaunchTemplate(t *testing.T) {
	t.Parallel()
	s, o := templated(t, "shop-web", "$Latest", farmfile.OnDemand)
	s.AddTemplate("shop-web", awstest.Fields{}, settings())
	providertest.Contract(t, opened(t, o), func() provider.Provider { return opened(t, o) }, sized)
}

func TestATemplateIsTheBaseOfAnInstance(t *testing.T) {
	t.Parallel()
	for name, byID := range map[string]bool{"by its id": true, "by its name": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, o := templated(t, "shop-web", "2", farmfile.OnDemand)
			id := s.AddTemplate("shop-web", awstest.Fields{}, settings(), awstest.Fields{})
			if byID {
				o.Roles["web"] = farmfile.AWSRole{LaunchTemplate: farmfile.LaunchTemplate{Name: id, Version: "2"}}
			}
			p := opened(t, o)
			if _, err := p.Launch(t.Context(), spec(farmfile.WebKind, "web", 1)); err != nil {
				t.Fatal(err)
			}
			got := s.Launched(launchedID(t, p))
			metadata := got["MetadataOptions"].(awstest.Fields)
			if metadata["HttpTokens"] != "required" || metadata["HttpEndpoint"] != "enabled" || metadata["HttpPutResponseHopLimit"] != 2 || metadata["InstanceMetadataTags"] != "enabled" {
				t.Errorf("metadata options %v", metadata)
			}
			if got["ImageId"] != "ami-00000000000000001" || got["InstanceType"] != "m7g.large" || got["DisableApiTermination"] != false || got["UserData"] == settings()["UserData"] ||
				got["InstanceMarketOptions"] != nil || got["SubnetId"] != awstest.Subnet(0) {
				t.Errorf("the farm file's is overridden: %v", got)
			}
			if got["KeyName"] != "theirs" || got["Monitoring"].(awstest.Fields)["Enabled"] != true || got["Placement"].(awstest.Fields)["Tenancy"] != "dedicated" ||
				got["BlockDeviceMappings"].([]any)[0].(awstest.Fields)["Ebs"].(awstest.Fields)["Encrypted"] != true {
				t.Errorf("the template's is lost: %v", got)
			}
			if err := p.Terminate(t.Context(), "web1"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTemplatesGoThroughFaults: by a template an instance is launched once, too, on
// another type and market if need be.
func TestTemplatesGoThroughFaults(t *testing.T) {
	t.Parallel()
	s, o := templated(t, "shop-web", "$Latest", farmfile.Spot)
	s.AddTemplate("shop-web", awstest.Fields{}, settings())
	s.Script("DescribeLaunchTemplateVersions", awstest.Throttled, awstest.Lost)
	s.Script("RunInstances", awstest.NoCapacity, awstest.NoCapacity, awstest.NoCapacity, awstest.NoCapacity, awstest.Lost, awstest.Throttled)
	p := opened(t, o)
	if _, err := p.Launch(t.Context(), spec(farmfile.WebKind, "web", 1)); err != nil {
		t.Fatal(err)
	}
	in := s.Last("RunInstances")
	if in["LaunchTemplate"].(awstest.Fields)["Version"] != "2" || in["InstanceMarketOptions"] != nil || s.Calls("RunInstances") != 7 {
		t.Errorf("the last of %d with %v", s.Calls("RunInstances"), in)
	}
	if all, err := opened(t, o).List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("there are %v, %v", all, err)
	}
	if _, err := opened(t, o).Launch(t.Context(), spec(farmfile.WebKind, "web", 1)); !errors.Is(err, provider.ErrExists) {
		t.Errorf("launched again: %v", err)
	}
}

func TestTemplatesThatCannotBe(t *testing.T) {
	t.Parallel()
	for says, c := range map[string]struct {
		name, version string
		data          awstest.Fields
	}{
		"network interfaces: subnets and":  {data: awstest.Fields{"NetworkInterfaces": []any{awstest.Fields{"DeviceIndex": 0}}}},
		"security groups by name":          {data: awstest.Fields{"SecurityGroups": []any{"default"}}},
		"market options: market is":        {data: awstest.Fields{"InstanceMarketOptions": awstest.Fields{"MarketType": "spot"}}},
		"instance requirements: size is":   {data: awstest.Fields{"InstanceRequirements": awstest.Fields{}}},
		"an availability zone: the subnet": {data: awstest.Fields{"Placement": awstest.Fields{"AvailabilityZone": "eu-test-1a"}}},
		"the device /dev/sdf":              {data: awstest.Fields{"BlockDeviceMappings": []any{awstest.Fields{"DeviceName": "/dev/sdf"}}}},
		"VersionNotFound":                  {version: "7", data: awstest.Fields{}},
		"InvalidLaunchTemplateName":        {name: "shop-wob", data: awstest.Fields{}},
		"InvalidLaunchTemplateId.NotFound": {name: "lt-0123456789abcdef0", data: awstest.Fields{}},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			if c.name == "" {
				c.name = "shop-web"
			}
			if c.version == "" {
				c.version = "$Default"
			}
			s, o := templated(t, c.name, c.version, farmfile.OnDemand)
			s.AddTemplate("shop-web", c.data)
			p := opened(t, o)
			if _, err := p.Launch(t.Context(), spec(farmfile.WebKind, "web", 1)); err == nil || !strings.Contains(err.Error(), says) || s.Calls("RunInstances") != 0 {
				t.Errorf("%v after %d calls", err, s.Calls("RunInstances"))
			}
			if !slices.ContainsFunc(p.Examine(t.Context(), nil), func(f Finding) bool {
				return strings.HasPrefix(f.What, "launch template "+c.name) && f.Err != nil && strings.Contains(f.Err.Error(), says)
			}) {
				t.Error("doctor does not find it")
			}
		})
	}
}

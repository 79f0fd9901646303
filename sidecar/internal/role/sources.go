package role

import (
	"errors"
	"time"

	"farmhand/sidecar/internal/config"
	"farmhand/sidecar/internal/membership"
)

// sources are where a membership can come from, by the name that the
// configuration gives.
var sources = map[string]func(config.Membership, Tools) (membership.Source, error){
	"file": func(c config.Membership, tools Tools) (membership.Source, error) {
		return membership.NewFile(c.File, tools.Log), nil
	},
	"dns": func(c config.Membership, _ Tools) (membership.Source, error) {
		return membership.NewDNS(membership.DNSOptions{
			Records: c.DNS.Records, Server: c.DNS.Server, Limit: time.Duration(c.DNS.TimeLimit),
			AtLeast: time.Duration(c.DNS.AtLeast), AtMost: time.Duration(c.DNS.AtMost),
		}), nil
	},
	"ec2": func(c config.Membership, _ Tools) (membership.Source, error) {
		e := c.EC2
		return membership.NewEC2(membership.EC2Options{
			Region: e.Region, Endpoint: e.Endpoint, Tags: e.Tags, RoleTag: e.RoleTag, Ports: e.Ports,
			Every: time.Duration(e.Every), AtMost: time.Duration(e.AtMost), Limit: time.Duration(e.TimeLimit), Misses: e.Misses,
		}), nil
	},
	"registry": func(c config.Membership, tools Tools) (membership.Source, error) {
		if tools.Farm == nil {
			return nil, errors.New("this node is a member of no farm")
		}
		return membership.NewRegistry(membership.RegistryOptions{
			Cluster: c.Registry.Cluster, Watch: tools.Farm.Watch, Members: tools.Members, Log: tools.Log,
		})
	},
}

package awstest

import "strconv"

// launchTemplate is a launch template; its versions are numbered from 1, and the first is
// the default.
type launchTemplate struct {
	id, name string
	versions []Fields
}

// AddTemplate makes a launch template with a version for each of data, which are as the
// model has ResponseLaunchTemplateData, and returns its id.
func (s *Server) AddTemplate(name string, data ...Fields) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.id("lt")
	s.templates = append(s.templates, &launchTemplate{id, name, data})
	return id
}

// Launched is what an instance was launched as: its template's data and what the request
// had in its place, by the names of a request.
func (s *Server) Launched(id string) Fields {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.instances {
		if i.id == id {
			return i.launched
		}
	}
	s.t.Errorf("no instance %s", id)
	return nil
}

// template finds what a request names, and the number of the version.
func (s *Server) template(id, name, version any) (*launchTemplate, int, error) {
	for _, t := range s.templates {
		if t.id != id && t.name != name {
			continue
		}
		number := 1
		switch version {
		case nil, "$Default":
		case "$Latest":
			number = len(t.versions)
		default:
			var err error
			if number, err = strconv.Atoi(version.(string)); err != nil || number < 1 || number > len(t.versions) {
				return nil, 0, refuse("InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version %v", version)
			}
		}
		return t, number, nil
	}
	if id != nil {
		return nil, 0, refuse("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %v, does not exist.", id)
	}
	return nil, 0, refuse("InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name %v, does not exist.", name)
}

func (s *Server) describeLaunchTemplateVersions(in Fields) (Fields, error) {
	list := []any{}
	for _, version := range texts(in["Versions"]) {
		t, number, err := s.template(in["LaunchTemplateId"], in["LaunchTemplateName"], version)
		if err != nil {
			return nil, err
		}
		list = append(list, Fields{
			"LaunchTemplateId": t.id, "LaunchTemplateName": t.name, "VersionNumber": number, "DefaultVersion": number == 1, "LaunchTemplateData": t.versions[number-1],
		})
	}
	return Fields{"LaunchTemplateVersions": list}, nil
}

// effective is a request over the data of the launch template that it names. What EC2 does not take
// together is refused.
func (s *Server) effective(in Fields) (Fields, error) {
	all := Fields{}
	if spec, ok := in["LaunchTemplate"].(Fields); ok {
		t, number, err := s.template(spec["LaunchTemplateId"], spec["LaunchTemplateName"], spec["Version"])
		if err != nil {
			return nil, err
		}
		for key, value := range t.versions[number-1] {
			all[key] = value
		}
	}
	for key, value := range in {
		all[key] = value
	}
	for _, pair := range [][2]string{{"NetworkInterfaces", "SubnetId"}, {"NetworkInterfaces", "SecurityGroupIds"}, {"SecurityGroups", "SecurityGroupIds"}, {"InstanceRequirements", "InstanceType"}} {
		if all[pair[0]] != nil && all[pair[1]] != nil {
			return nil, refuse("InvalidParameterCombination", "%s and %s may not be specified on the same request", pair[0], pair[1])
		}
	}
	if all["ImageId"] == nil {
		return nil, refuse("MissingParameter", "The request must contain the parameter ImageId")
	}
	return all, nil
}

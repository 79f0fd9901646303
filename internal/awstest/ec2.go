package awstest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// thing is anything that EC2 has: its members as answers have them, and what else
// matters.
type thing struct {
	id     string
	fields Fields
	hidden int // looks until it is shown
	token  string
	asked  string // what was asked for with that token
	// launched is what an instance was launched as; see Launched.
	launched Fields
}

// state is what there is in the account.
type state struct {
	next      int
	instances []*thing
	disks     []*thing
	snapshots []*thing
	images    []*thing
	addresses []*thing
	targets   map[string]*targetGroup // by ARN
	templates []*launchTemplate
	permitted map[string][]any // what security groups let in
}

func newState() state {
	return state{targets: map[string]*targetGroup{}, permitted: map[string][]any{}}
}

var ec2Operations = map[string]operation{
	"RunInstances": (*Server).runInstances, "DescribeLaunchTemplateVersions": (*Server).describeLaunchTemplateVersions, "DescribeInstances": (*Server).describeInstances, "TerminateInstances": (*Server).terminateInstances,
	"CreateTags": (*Server).createTags, "DeleteTags": (*Server).deleteTags,
	"CreateVolume": (*Server).createVolume, "DescribeVolumes": (*Server).describeVolumes, "ModifyVolume": (*Server).modifyVolume,
	"AttachVolume": (*Server).attachVolume, "DetachVolume": (*Server).detachVolume, "DeleteVolume": (*Server).deleteVolume,
	"CreateSnapshot": (*Server).createSnapshot, "CreateSnapshots": (*Server).createSnapshots,
	"DescribeSnapshots": (*Server).describeSnapshots, "DeleteSnapshot": (*Server).deleteSnapshot,
	"DescribeSubnets": (*Server).describeSubnets, "DescribeSecurityGroups": (*Server).describeSecurityGroups,
	"DescribeAddresses": (*Server).describeAddresses, "AssociateAddress": (*Server).associateAddress,
	"CreateImage": (*Server).createImage, "DescribeImages": (*Server).describeImages, "DeregisterImage": (*Server).deregisterImage,
}

// Subnet is the id of a subnet in one of the zones a, b, c ..., from 0.
func Subnet(n int) string { return fmt.Sprintf("subnet-%016x", n) }

func zoneOf(subnet string) (string, error) {
	digits, _ := strings.CutPrefix(subnet, "subnet-")
	n, err := strconv.ParseInt(digits, 16, 32)
	if err != nil || n > 5 {
		return "", refuse("InvalidSubnetID.NotFound", "no subnet %s", subnet)
	}
	return "eu-test-1" + string(rune('a'+n)), nil
}

func (s *Server) id(prefix string) string {
	s.next++
	return fmt.Sprintf("%s-%017x", prefix, s.next)
}

// made notes a new thing, or finds the one that was made by the same request before.
func (s *Server) made(list *[]*thing, token any, in Fields, make func() (*thing, error)) (*thing, error) {
	asked, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	t, _ := token.(string)
	for _, other := range *list {
		if t != "" && other.token == t {
			if other.asked != string(asked) {
				return nil, refuse("IdempotentParameterMismatch", "the client token was used for another request")
			}
			return other, nil
		}
	}
	one, err := make()
	if err != nil {
		return nil, err
	}
	one.token, one.asked, one.hidden = t, string(asked), s.lag
	one.fields["Tags"] = []any{}
	*list = append(*list, one)
	return one, nil
}

func byID(list []*thing, id any, code string) (*thing, error) {
	for _, one := range list {
		if one.id == id && one.hidden == 0 {
			return one, nil
		}
	}
	return nil, refuse(code, "The ID %q does not exist", id)
}

func texts(list any) []string {
	var all []string
	for _, one := range asList(list) {
		all = append(all, one.(string))
	}
	return all
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}

// tag puts the tags of a request for a kind of resource on a thing.
func (t *thing) tag(specifications any, kind string) {
	for _, s := range asList(specifications) {
		if s := s.(Fields); s["ResourceType"] == kind {
			t.addTags(s["Tags"])
		}
	}
}

func (t *thing) addTags(list any) {
	for _, tag := range asList(list) {
		tag := tag.(Fields)
		t.removeTag(tag["Key"])
		t.fields["Tags"] = append(asList(t.fields["Tags"]), Fields{"Key": tag["Key"], "Value": tag["Value"]})
	}
}

func (t *thing) removeTag(key any) {
	t.fields["Tags"] = slices.DeleteFunc(slices.Clone(asList(t.fields["Tags"])), func(tag any) bool { return tag.(Fields)["Key"] == key })
}

// matches reports whether a thing passes the filters; of others than by tag a test fails.
func (s *Server) matches(t *thing, filters any) bool {
	for _, f := range asList(filters) {
		f := f.(Fields)
		name, values := f["Name"].(string), texts(f["Values"])
		for i := range values {
			values[i] = strings.NewReplacer(`\\`, `\`, `\*`, `*`, `\?`, `?`).Replace(values[i])
		}
		found := false
		for _, tag := range asList(t.fields["Tags"]) {
			tag := tag.(Fields)
			found = found || name == "tag-key" && slices.Contains(values, tag["Key"].(string)) ||
				name == "tag:"+tag["Key"].(string) && slices.Contains(values, tag["Value"].(string))
		}
		if !strings.HasPrefix(name, "tag") {
			s.t.Errorf("the stand-in has no filter %s", name)
		}
		if !found {
			return false
		}
	}
	return true
}

// show are the things that a request asks for, by id or filter, a page at a time.
func (s *Server) show(list []*thing, in Fields, ids, notFound string) ([]*thing, any, error) {
	var all []*thing
	named := texts(in[ids])
	for _, id := range named {
		one, err := byID(list, id, notFound)
		if err != nil {
			for _, t := range list {
				if t.id == id && t.hidden > 0 {
					t.hidden--
				}
			}
			return nil, nil, err
		}
		all = append(all, one)
	}
	if named == nil {
		for _, t := range list {
			switch {
			case !s.matches(t, in["Filters"]):
			case t.hidden > 0:
				t.hidden--
			default:
				all = append(all, t)
			}
		}
	}
	first := 0
	if token, ok := in["NextToken"].(string); ok {
		var err error
		if first, err = strconv.Atoi(token); err != nil || first > len(all) {
			return nil, nil, refuse("InvalidPaginationToken", "no such page")
		}
	}
	const page = 3 // small, so that there are several
	if named == nil && len(all) > first+page {
		return all[first : first+page], strconv.Itoa(first + page), nil
	}
	return all[first:], nil, nil
}

func answer(key string, list []*thing, next any) Fields {
	items := []any{}
	for _, t := range list {
		items = append(items, t.fields)
	}
	out := Fields{key: items}
	if next != nil {
		out["NextToken"] = next
	}
	return out
}

func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000Z") }

func instanceState(name string) Fields {
	codes := map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
	return Fields{"Name": name, "Code": codes[name]}
}

func (t *thing) instanceState() string { return t.fields["State"].(Fields)["Name"].(string) }

func (s *Server) runInstances(in Fields) (Fields, error) {
	i, err := s.made(&s.instances, in["ClientToken"], in, func() (*thing, error) {
		all, err := s.effective(in)
		if err != nil {
			return nil, err
		}
		zone, err := zoneOf(in["SubnetId"].(string))
		if err != nil {
			return nil, err
		}
		id := s.id("i")
		return &thing{id: id, launched: all, fields: Fields{
			"InstanceId": id, "ImageId": in["ImageId"], "InstanceType": in["InstanceType"], "LaunchTime": now(), "State": instanceState("pending"),
			"PrivateIpAddress": fmt.Sprintf("10.0.%d.%d", s.next/256, s.next%256), "SubnetId": in["SubnetId"], "Placement": Fields{"AvailabilityZone": zone},
			"RootDeviceName": "/dev/xvda", "BlockDeviceMappings": []any{Fields{"DeviceName": "/dev/xvda", "Ebs": Fields{"VolumeId": s.id("vol"), "Status": "attached"}}},
		}}, nil
	})
	if err != nil {
		return nil, err
	}
	i.tag(in["TagSpecifications"], "instance")
	return Fields{"Instances": []any{i.fields}, "ReservationId": "r-1"}, nil
}

func (s *Server) describeInstances(in Fields) (Fields, error) {
	list, next, err := s.show(s.instances, in, "InstanceIds", "InvalidInstanceID.NotFound")
	if err != nil {
		return nil, err
	}
	reservations := []any{}
	for _, i := range list {
		fields := Fields{}
		for key, value := range i.fields {
			fields[key] = value
		}
		reservations = append(reservations, Fields{"ReservationId": "r-1", "Instances": []any{fields}})
		// Each look brings it further.
		switch i.instanceState() {
		case "pending":
			i.fields["State"] = instanceState("running")
		case "shutting-down":
			i.fields["State"] = instanceState("terminated")
			delete(i.fields, "PrivateIpAddress")
			s.ended(i)
		}
	}
	out := Fields{"Reservations": reservations}
	if next != nil {
		out["NextToken"] = next
	}
	return out, nil
}

// ended lets go of what a terminated instance had.
func (s *Server) ended(i *thing) {
	for _, d := range s.disks {
		if d.holder() == i.id {
			d.fields["Attachments"], d.fields["State"] = []any{}, "available"
		}
	}
	for _, a := range s.addresses {
		if a.fields["InstanceId"] == i.id {
			delete(a.fields, "InstanceId")
			delete(a.fields, "AssociationId")
		}
	}
}

func (s *Server) terminateInstances(in Fields) (Fields, error) {
	changes := []any{}
	for _, id := range texts(in["InstanceIds"]) {
		i, err := byID(s.instances, id, "InvalidInstanceID.NotFound")
		if err != nil {
			return nil, err
		}
		if i.launched["DisableApiTermination"] == true {
			return nil, refuse("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", id)
		}
		was := i.fields["State"]
		if i.instanceState() != "terminated" {
			i.fields["State"] = instanceState("shutting-down")
		}
		changes = append(changes, Fields{"InstanceId": id, "PreviousState": was, "CurrentState": i.fields["State"]})
	}
	return Fields{"TerminatingInstances": changes}, nil
}

// any is what has an id, of whatever kind, also what is not shown yet.
func (s *Server) any(id string) (*thing, error) {
	for _, list := range [][]*thing{s.instances, s.disks, s.snapshots, s.images} {
		for _, t := range list {
			if t.id == id {
				return t, nil
			}
		}
	}
	return nil, refuse("InvalidID", "no %s", id)
}

const maxTags = 50

func (s *Server) createTags(in Fields) (Fields, error) {
	for _, id := range texts(in["Resources"]) {
		t, err := s.any(id)
		if err != nil {
			return nil, err
		}
		t.addTags(in["Tags"])
		if len(asList(t.fields["Tags"])) > maxTags {
			return nil, refuse("TagLimitExceeded", "more than %d tags", maxTags)
		}
	}
	return nil, nil
}

func (s *Server) deleteTags(in Fields) (Fields, error) {
	for _, id := range texts(in["Resources"]) {
		t, err := s.any(id)
		if err != nil {
			return nil, err
		}
		for _, tag := range asList(in["Tags"]) {
			t.removeTag(tag.(Fields)["Key"])
		}
	}
	return nil, nil
}

func (s *Server) createVolume(in Fields) (Fields, error) {
	d, err := s.made(&s.disks, in["ClientToken"], in, func() (*thing, error) {
		if from, ok := in["SnapshotId"]; ok {
			if _, err := byID(s.snapshots, from, "InvalidSnapshot.NotFound"); err != nil {
				return nil, err
			}
		}
		id := s.id("vol")
		return &thing{id: id, fields: Fields{
			"VolumeId": id, "AvailabilityZone": in["AvailabilityZone"], "Size": in["Size"], "CreateTime": now(), "State": "creating", "Encrypted": true, "VolumeType": in["VolumeType"],
			"Attachments": []any{},
		}}, nil
	})
	if err != nil {
		return nil, err
	}
	d.tag(in["TagSpecifications"], "volume")
	out := Fields{}
	for _, key := range []string{"VolumeId", "AvailabilityZone", "Size", "CreateTime", "State", "Tags"} {
		out[key] = d.fields[key]
	}
	return out, nil
}

func (s *Server) describeVolumes(in Fields) (Fields, error) {
	var there []*thing
	for _, d := range s.disks {
		if d.fields["State"] != "deleted" {
			there = append(there, d)
		}
	}
	list, next, err := s.show(there, in, "VolumeIds", "InvalidVolume.NotFound")
	if err != nil {
		return nil, err
	}
	out := answer("Volumes", list, next)
	for n, d := range list {
		copied := Fields{}
		for key, value := range d.fields {
			copied[key] = value
		}
		out["Volumes"].([]any)[n] = copied
		if d.fields["State"] == "creating" {
			d.fields["State"] = "available"
		}
	}
	return out, nil
}

func (s *Server) modifyVolume(in Fields) (Fields, error) {
	d, err := byID(s.disks, in["VolumeId"], "InvalidVolume.NotFound")
	if err != nil {
		return nil, err
	}
	was := d.fields["Size"].(int)
	if in["Size"].(int) < was {
		return nil, refuse("InvalidParameterValue", "a volume cannot become smaller")
	}
	d.fields["Size"] = in["Size"]
	return Fields{"VolumeModification": Fields{"VolumeId": d.id, "ModificationState": "modifying", "OriginalSize": was, "TargetSize": in["Size"]}}, nil
}

func (t *thing) holder() string {
	for _, a := range asList(t.fields["Attachments"]) {
		return a.(Fields)["InstanceId"].(string)
	}
	return ""
}

func (s *Server) attachVolume(in Fields) (Fields, error) {
	d, err := byID(s.disks, in["VolumeId"], "InvalidVolume.NotFound")
	if err != nil {
		return nil, err
	}
	i, err := byID(s.instances, in["InstanceId"], "InvalidInstanceID.NotFound")
	if err != nil {
		return nil, err
	}
	if d.holder() != "" {
		return nil, refuse("VolumeInUse", "%s is attached to %s", d.id, d.holder())
	}
	if state := i.instanceState(); state != "running" && state != "stopped" {
		return nil, refuse("IncorrectState", "%s is %s", i.id, state)
	}
	if i.fields["Placement"].(Fields)["AvailabilityZone"] != d.fields["AvailabilityZone"] {
		return nil, refuse("InvalidVolume.ZoneMismatch", "%s is in another zone", d.id)
	}
	for _, m := range asList(i.fields["BlockDeviceMappings"]) {
		if m.(Fields)["DeviceName"] == in["Device"] {
			return nil, refuse("InvalidParameterValue", "%s is taken", in["Device"])
		}
	}
	d.fields["State"] = "in-use"
	a := Fields{"InstanceId": i.id, "VolumeId": d.id, "State": "attached", "Device": in["Device"]}
	d.fields["Attachments"] = []any{a}
	i.fields["BlockDeviceMappings"] = append(asList(i.fields["BlockDeviceMappings"]), Fields{"DeviceName": in["Device"], "Ebs": Fields{"VolumeId": d.id, "Status": "attached"}})
	return a, nil
}

func (s *Server) detachVolume(in Fields) (Fields, error) {
	d, err := byID(s.disks, in["VolumeId"], "InvalidVolume.NotFound")
	if err != nil {
		return nil, err
	}
	if d.holder() == "" {
		return nil, refuse("IncorrectState", "%s is not attached", d.id)
	}
	who := d.holder()
	d.fields["Attachments"], d.fields["State"] = []any{}, "available"
	return Fields{"VolumeId": d.id, "InstanceId": who, "State": "detaching"}, nil
}

func (s *Server) deleteVolume(in Fields) (Fields, error) {
	d, err := byID(s.disks, in["VolumeId"], "InvalidVolume.NotFound")
	if err != nil {
		return nil, err
	}
	if d.holder() != "" {
		return nil, refuse("VolumeInUse", "%s is attached", d.id)
	}
	if d.fields["State"] == "deleted" {
		return nil, refuse("InvalidVolume.NotFound", "%s is deleted", d.id)
	}
	d.fields["State"] = "deleted"
	return nil, nil
}

func (s *Server) snap(disk *thing, in Fields) Fields {
	id := s.id("snap")
	t := &thing{id: id, hidden: s.lag, fields: Fields{"SnapshotId": id, "VolumeId": disk.id, "VolumeSize": disk.fields["Size"], "StartTime": now(), "State": "pending", "Progress": "0%", "Tags": []any{}}}
	t.tag(in["TagSpecifications"], "snapshot")
	s.snapshots = append(s.snapshots, t)
	out := Fields{}
	for key, value := range t.fields {
		out[key] = value
	}
	return out
}

func (s *Server) createSnapshot(in Fields) (Fields, error) {
	d, err := byID(s.disks, in["VolumeId"], "InvalidVolume.NotFound")
	if err != nil {
		return nil, err
	}
	return s.snap(d, in), nil
}

func (s *Server) createSnapshots(in Fields) (Fields, error) {
	of := in["InstanceSpecification"].(Fields)
	if _, err := byID(s.instances, of["InstanceId"], "InvalidInstanceID.NotFound"); err != nil {
		return nil, err
	}
	list := []any{}
	for _, d := range s.disks {
		if d.holder() == of["InstanceId"] && !slices.Contains(texts(of["ExcludeDataVolumeIds"]), d.id) {
			info := s.snap(d, in)
			list = append(list, Fields{"SnapshotId": info["SnapshotId"], "VolumeId": d.id, "State": "pending", "Tags": info["Tags"]})
		}
	}
	return Fields{"Snapshots": list}, nil
}

func (s *Server) describeSnapshots(in Fields) (Fields, error) {
	list, next, err := s.show(s.snapshots, in, "SnapshotIds", "InvalidSnapshot.NotFound")
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		t.fields["State"], t.fields["Progress"] = "completed", "100%"
	}
	return answer("Snapshots", list, next), nil
}

func (s *Server) deleteSnapshot(in Fields) (Fields, error) {
	t, err := byID(s.snapshots, in["SnapshotId"], "InvalidSnapshot.NotFound")
	if err != nil {
		return nil, err
	}
	s.snapshots = slices.DeleteFunc(s.snapshots, func(o *thing) bool { return o == t })
	return nil, nil
}

func (s *Server) describeSubnets(in Fields) (Fields, error) {
	list := []any{}
	for _, id := range texts(in["SubnetIds"]) {
		zone, err := zoneOf(id)
		if err != nil {
			return nil, err
		}
		list = append(list, Fields{"SubnetId": id, "AvailabilityZone": zone})
	}
	return Fields{"Subnets": list}, nil
}

// OpenGroup is a security group that lets the world in at port 22.
const OpenGroup = "sg-0000000000000bad0"

// LetIn has a security group let in what its new rule says: a member of IpPermission, by
// the model's names.
func (s *Server) LetIn(id string, rule Fields) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.permitted[id] = append(s.permitted[id], rule)
}

func (s *Server) describeSecurityGroups(in Fields) (Fields, error) {
	list := []any{}
	for _, id := range texts(in["GroupIds"]) {
		from := "10.0.0.0/16"
		if id == OpenGroup {
			from = "0.0.0.0/0"
		}
		in := append([]any{Fields{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": []any{Fields{"CidrIp": from}}}}, s.permitted[id]...)
		list = append(list, Fields{"GroupId": id, "GroupName": id, "IpPermissions": in})
	}
	return Fields{"SecurityGroups": list}, nil
}

// AddAddress makes an Elastic IP address and returns its allocation's id.
func (s *Server) AddAddress() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.id("eipalloc")
	s.addresses = append(s.addresses, &thing{id: id, fields: Fields{"AllocationId": id, "PublicIp": fmt.Sprintf("192.0.2.%d", len(s.addresses)+1)}})
	return id
}

func (s *Server) describeAddresses(in Fields) (Fields, error) {
	list, _, err := s.show(s.addresses, in, "AllocationIds", "InvalidAllocationID.NotFound")
	return answer("Addresses", list, nil), err
}

func (s *Server) associateAddress(in Fields) (Fields, error) {
	a, err := byID(s.addresses, in["AllocationId"], "InvalidAllocationID.NotFound")
	if err != nil {
		return nil, err
	}
	if a.fields["AssociationId"] != nil && in["AllowReassociation"] != true {
		return nil, refuse("Resource.AlreadyAssociated", "%s is associated", a.id)
	}
	a.fields["InstanceId"], a.fields["AssociationId"] = in["InstanceId"], s.id("eipassoc")
	return Fields{"AssociationId": a.fields["AssociationId"]}, nil
}

func (s *Server) createImage(in Fields) (Fields, error) {
	i, err := byID(s.instances, in["InstanceId"], "InvalidInstanceID.NotFound")
	if err != nil {
		return nil, err
	}
	for _, other := range s.images {
		if other.fields["Name"] == in["Name"] {
			return nil, refuse("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", in["Name"], other.id)
		}
	}
	id := s.id("ami")
	t := &thing{id: id, hidden: s.lag, fields: Fields{"ImageId": id, "Name": in["Name"], "State": "pending", "CreationDate": now(), "Tags": []any{}}}
	t.tag(in["TagSpecifications"], "image")
	s.images = append(s.images, t)
	s.snap(&thing{id: asList(i.fields["BlockDeviceMappings"])[0].(Fields)["Ebs"].(Fields)["VolumeId"].(string), fields: Fields{"Size": 8}}, in)
	return Fields{"ImageId": id}, nil
}

func (s *Server) describeImages(in Fields) (Fields, error) {
	list, next, err := s.show(s.images, in, "ImageIds", "InvalidAMIID.NotFound")
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		t.fields["State"] = "available"
	}
	return answer("Images", list, next), nil
}

func (s *Server) deregisterImage(in Fields) (Fields, error) {
	t, err := byID(s.images, in["ImageId"], "InvalidAMIID.NotFound")
	if err != nil {
		return nil, err
	}
	s.images = slices.DeleteFunc(s.images, func(o *thing) bool { return o == t })
	return nil, nil
}

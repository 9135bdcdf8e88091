// Oracle answers what upstream's own code makes of JSON, YAML and protobuf: one request per line, one answer per line.
// It is for comparing by hand (see tests/it/upstream.rs), and built from a checkout of Kubernetes 1.24, whose vendor
// folder has all that it needs:
//
//	cd kubernetes && go build -mod=vendor -overlay overlay.json -o oracle .../tests/oracle/main.go
//
// with any Go from 1.23 on. The overlay replaces vendor/sigs.k8s.io/json by the newest sigs.k8s.io/json, whose messages
// have paths; its files need a line "//go:build go1.23" for the compiler to take them.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authzv1 "k8s.io/api/authorization/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

type req struct{ Op, Type, Data string }
type resp struct {
	Err    string   `json:"err,omitempty"`
	Strict []string `json:"strict,omitempty"`
	Json   string   `json:"json,omitempty"`
	Proto  string   `json:"proto,omitempty"`
}
type protoMsg interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

var types = map[string]interface{}{
	"io.k8s.api.core.v1.Pod": corev1.Pod{}, "io.k8s.api.core.v1.Service": corev1.Service{}, "io.k8s.api.core.v1.Secret": corev1.Secret{},
	"io.k8s.api.core.v1.ConfigMap": corev1.ConfigMap{}, "io.k8s.api.core.v1.Node": corev1.Node{}, "io.k8s.api.core.v1.Event": corev1.Event{},
	"io.k8s.api.core.v1.PersistentVolume": corev1.PersistentVolume{}, "io.k8s.api.core.v1.Namespace": corev1.Namespace{},
	"io.k8s.api.core.v1.ResourceQuota": corev1.ResourceQuota{}, "io.k8s.api.core.v1.LimitRange": corev1.LimitRange{},
	"io.k8s.api.core.v1.Endpoints": corev1.Endpoints{}, "io.k8s.api.core.v1.PersistentVolumeClaim": corev1.PersistentVolumeClaim{},
	"io.k8s.api.apps.v1.Deployment": appsv1.Deployment{}, "io.k8s.api.apps.v1.StatefulSet": appsv1.StatefulSet{}, "io.k8s.api.apps.v1.DaemonSet": appsv1.DaemonSet{},
	"io.k8s.api.apps.v1.ControllerRevision": appsv1.ControllerRevision{}, "io.k8s.api.batch.v1.Job": batchv1.Job{}, "io.k8s.api.batch.v1.CronJob": batchv1.CronJob{},
	"io.k8s.api.coordination.v1.Lease": coordinationv1.Lease{}, "io.k8s.api.rbac.v1.Role": rbacv1.Role{}, "io.k8s.api.rbac.v1.ClusterRole": rbacv1.ClusterRole{},
	"io.k8s.api.networking.v1.Ingress": networkingv1.Ingress{}, "io.k8s.api.networking.v1.NetworkPolicy": networkingv1.NetworkPolicy{},
	"io.k8s.api.policy.v1.PodDisruptionBudget": policyv1.PodDisruptionBudget{}, "io.k8s.api.discovery.v1.EndpointSlice": discoveryv1.EndpointSlice{},
	"io.k8s.api.storage.v1.StorageClass": storagev1.StorageClass{}, "io.k8s.api.storage.v1.CSINode": storagev1.CSINode{},
	"io.k8s.api.authorization.v1.SubjectAccessReview": authzv1.SubjectAccessReview{}, "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler": autoscalingv2.HorizontalPodAutoscaler{},
	"io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration":                admissionv1.ValidatingWebhookConfiguration{},
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition": apiextv1.CustomResourceDefinition{},
	"": map[string]interface{}{},
}

func encode(v interface{}) string {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return "ERR " + err.Error()
	}
	return string(bytes.TrimRight(b.Bytes(), "\n"))
}

func handle(r req) (out resp) {
	defer func() {
		if p := recover(); p != nil {
			out.Err = fmt.Sprint("PANIC ", p)
		}
	}()
	data, _ := base64.StdEncoding.DecodeString(r.Data)
	switch r.Op {
	case "json":
		obj := reflect.New(reflect.TypeOf(types[r.Type])).Interface()
		strict, err := kjson.UnmarshalStrict(data, obj)
		if err != nil {
			out.Err = err.Error()
			return
		}
		for _, s := range strict {
			out.Strict = append(out.Strict, s.Error())
		}
		out.Json = base64.StdEncoding.EncodeToString([]byte(encode(obj)))
		if m, ok := obj.(protoMsg); ok {
			raw, err := m.Marshal()
			if err != nil {
				out.Err = err.Error()
				return
			}
			out.Proto = base64.StdEncoding.EncodeToString(raw)
		}
	case "proto":
		obj := reflect.New(reflect.TypeOf(types[r.Type])).Interface()
		m := obj.(protoMsg)
		if err := m.Unmarshal(data); err != nil {
			out.Err = err.Error()
			return
		}
		out.Json = base64.StdEncoding.EncodeToString([]byte(encode(obj)))
		raw, _ := m.Marshal()
		out.Proto = base64.StdEncoding.EncodeToString(raw)
	case "yaml2json":
		j, err := yaml.YAMLToJSON(data)
		if err != nil {
			out.Err = err.Error()
			return
		}
		if _, err := yaml.YAMLToJSONStrict(data); err != nil {
			out.Strict = []string{err.Error()}
		}
		out.Json = base64.StdEncoding.EncodeToString(j)
	case "json2yaml":
		y, err := yaml.JSONToYAML(data)
		if err != nil {
			out.Err = err.Error()
			return
		}
		out.Json = base64.StdEncoding.EncodeToString(y)
	}
	return
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	dec := json.NewDecoder(in)
	enc := json.NewEncoder(w)
	for {
		var r req
		if err := dec.Decode(&r); err != nil {
			return
		}
		enc.Encode(handle(r))
	}
}

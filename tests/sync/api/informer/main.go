// The informer follows objects as client-go does, and prints what it is told, a line of JSON an event; a test reads
// them. With -apply it writes one service by server-side apply instead.
//
//	{"event":"synced"}
//	{"event":"add","kind":"services","key":"NAMESPACE/NAME","revision":"12","value":"…"}
//
// "update" with the revision that is known already is a resync's, and told as "resync". "value" is the annotation
// "value" of the object. Whether lists are streamed is client-go's own switch, KUBE_FEATURE_WatchListClient.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

type line struct {
	Event    string `json:"event"`
	Kind     string `json:"kind,omitempty"`
	Key      string `json:"key,omitempty"`
	Revision string `json:"revision,omitempty"`
	Value    string `json:"value,omitempty"`
}

var printing sync.Mutex

func tell(said line) {
	printing.Lock()
	defer printing.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		os.Exit(1)
	}
}

// handler tells of one kind.
func handler(kind string) cache.ResourceEventHandlerFuncs {
	say := func(event string, obj any) {
		if gone, lost := obj.(cache.DeletedFinalStateUnknown); lost {
			obj = gone.Obj
		}
		about, err := meta.Accessor(obj)
		if err != nil {
			return
		}
		key := about.GetNamespace() + "/" + about.GetName()
		tell(line{event, kind, key, about.GetResourceVersion(), about.GetAnnotations()["value"]})
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { say("add", obj) },
		UpdateFunc: func(before, after any) {
			old, errOld := meta.Accessor(before)
			now, errNow := meta.Accessor(after)
			if errOld == nil && errNow == nil && old.GetResourceVersion() == now.GetResourceVersion() {
				say("resync", after)
				return
			}
			say("update", after)
		},
		DeleteFunc: func(obj any) { say("delete", obj) },
	}
}

func follow(ctx context.Context, config *rest.Config, namespace, custom string, resync time.Duration) error {
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(typed, resync, informers.WithNamespace(namespace))
	following := map[string]cache.SharedIndexInformer{
		"services":       factory.Core().V1().Services().Informer(),
		"endpointslices": factory.Discovery().V1().EndpointSlices().Informer(),
	}
	dynamics := dynamicinformer.NewFilteredDynamicSharedInformerFactory(untyped, resync, namespace, nil)
	if custom != "" {
		resource, _ := schema.ParseResourceArg(custom)
		if resource == nil {
			return fmt.Errorf("-custom %q: has to be RESOURCE.VERSION.GROUP", custom)
		}
		following[resource.Resource] = dynamics.ForResource(*resource).Informer()
	}
	for kind, informer := range following {
		if _, err := informer.AddEventHandler(handler(kind)); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	dynamics.Start(ctx.Done())
	for _, informer := range following {
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return fmt.Errorf("not synced")
		}
	}
	tell(line{Event: "synced"})
	<-ctx.Done()
	factory.Shutdown()
	dynamics.Shutdown()
	return nil
}

func apply(ctx context.Context, config *rest.Config, namespace, name, manager string, port int32, force bool) error {
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	wanted := applycore.Service(name, namespace).
		WithLabels(map[string]string{"app": name}).
		WithSpec(applycore.ServiceSpec().
			WithSelector(map[string]string{"app": name}).
			WithPorts(applycore.ServicePort().WithName("http").WithProtocol(corev1.ProtocolTCP).WithPort(80).
				WithTargetPort(intstr.FromInt32(port))))
	options := metav1.ApplyOptions{FieldManager: manager, Force: force}
	got, err := typed.CoreV1().Services(namespace).Apply(ctx, wanted, options)
	if err != nil {
		return err
	}
	// what it owns can be read back as what it applied
	own, err := applycore.ExtractService(got, manager)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(own)
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file")
	namespace := flag.String("namespace", "", "of what is followed; empty: all")
	custom := flag.String("custom", "", "a custom resource to follow too, as RESOURCE.VERSION.GROUP")
	resync := flag.Duration("resync", 0, "0: never")
	applied := flag.String("apply", "", "the name of a service to apply")
	manager := flag.String("manager", "informer", "field manager of -apply")
	port := flag.Int("port", 8080, "target port of -apply")
	force := flag.Bool("force", false, "-apply takes fields from others")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err == nil && *applied != "" {
		err = apply(ctx, config, *namespace, *applied, *manager, int32(*port), *force)
	} else if err == nil {
		err = follow(ctx, config, *namespace, *custom, *resync)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

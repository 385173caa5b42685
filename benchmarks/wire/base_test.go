// SPDX-License-Identifier: MIT

package main

import (
	"slices"
	"testing"
)

func TestServersOfBaseComeBeforeTheirCounterparts(t *testing.T) {
	*base, *profile = "/tmp/wire-base", "profiles"
	defer func() { *base, *profile = "", "" }()
	got, err := withBase([]string{"floor", "base-floor", "dsm-serve", "pion", "dsm-accept", "base-dsm-accept"})
	want := []string{"floor", "base-floor", "base-dsm-serve", "dsm-serve", "pion", "dsm-accept", "base-dsm-accept"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("the servers are %v, %v, want %v", got, err, want)
	}
	if program, name, dir := programOf("base-dsm-serve", "self"); program != *base || name != "dsm-serve" || dir != "profiles/base" {
		t.Errorf("base-dsm-serve is %s of %s with profiles in %s", name, program, dir)
	}
	if program, name, dir := programOf("dsm-serve", "self"); program != "self" || name != "dsm-serve" || dir != "profiles" {
		t.Errorf("dsm-serve is %s of %s with profiles in %s", name, program, dir)
	}
}

func TestServerOfBaseNeedsItsBinary(t *testing.T) {
	if _, err := withBase([]string{"base-dsm-serve"}); err == nil {
		t.Error("there is no error")
	}
	if got, err := withBase([]string{"dsm-serve"}); err != nil || !slices.Equal(got, []string{"dsm-serve"}) {
		t.Errorf("the servers are %v, %v", got, err)
	}
}

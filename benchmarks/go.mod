module github.com/go-dsm/dsm/benchmarks

go 1.25.0

replace github.com/go-dsm/dsm => ../

require (
	github.com/elastic/go-freelru v0.16.0
	github.com/go-dsm/dsm v0.0.0-00010101000000-000000000000
	github.com/hashicorp/golang-lru/v2 v2.0.7
	github.com/jellydator/ttlcache/v3 v3.4.1
	github.com/maypok86/otter/v2 v2.4.0
	github.com/phuslu/lru v1.0.18
)

require golang.org/x/sync v0.16.0 // indirect

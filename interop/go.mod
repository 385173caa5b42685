module github.com/go-dsm/dsm/interop

go 1.25.0

replace (
	github.com/go-dsm/dsm => ../
	github.com/go-dsm/dsm/pionv4 => ../pionv4
)

require (
	github.com/go-dsm/dsm v0.1.0
	github.com/go-dsm/dsm/pionv4 v0.0.0-00010101000000-000000000000
	github.com/pion/dtls/v2 v2.2.12
	github.com/pion/dtls/v3 v3.1.15
	github.com/pion/dtls/v4 v4.0.1
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/pion/logging v0.2.4 // indirect
	github.com/pion/transport/v2 v2.2.10 // indirect
	github.com/pion/transport/v5 v5.1.4 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.48.0 // indirect
	golang.org/x/net v0.49.0 // indirect
	golang.org/x/sys v0.41.0 // indirect
)

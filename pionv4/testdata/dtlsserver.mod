module github.com/go-dsm/dsm

go 1.25.0

require (
	github.com/pion/dtls/v2 v2.2.12
	github.com/pion/logging v0.2.4
	github.com/pion/transport/v2 v2.2.10
	github.com/stretchr/testify v1.12.1
	golang.org/x/net v0.49.0
	golang.org/x/sys v0.41.0
)

require (
	github.com/pion/transport/v3 v3.1.1 // indirect
	github.com/pion/transport/v5 v5.1.4 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.48.0 // indirect
)

require (
	github.com/go-dsm/dsm/pionv4 v0.0.0-00010101000000-000000000000
	github.com/pion/dtls/v4 v4.0.1
)

replace github.com/go-dsm/dsm/pionv4 => ./pionv4

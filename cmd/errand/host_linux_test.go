package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/errand-dev/errand/machine/imagetest"
)

func TestMain(m *testing.M) { os.Exit(imagetest.Main(m)) }

// hostImage gives a data directory the image of this host, which is the same for
// all. TestDemo begins without it.
func hostImage(t *testing.T, data string) { imagetest.Host(t, filepath.Join(data, "images")) }

// GET URL with the key in a header, or as a user, with Go's net/http.
package main

import (
	"net/http"
	"os"
)

func main() {
	request, err := http.NewRequest("GET", os.Getenv("URL")+"/v1", nil)
	if err != nil {
		panic(err)
	}
	if len(os.Args) > 1 {
		request.SetBasicAuth(os.Getenv("KEY"), "")
	} else {
		request.Header.Set("X-API-Key", os.Getenv("KEY"))
	}
	if _, err := http.DefaultClient.Do(request); err != nil {
		panic(err)
	}
}

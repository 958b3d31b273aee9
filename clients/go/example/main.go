// Keeps a customer in a vault, forgets her, and checks the receipt.
//
//	go run ./example FOLDER    # the folder of `lethed dev`, which serves at the same time
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	client "lethe.example/client"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: example FOLDER")
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, folder string) error {
	operator, err := client.Open(filepath.Join(folder, "client-operator.toml"), client.Options{})
	if err != nil {
		return err
	}
	defer operator.Close()
	vault, err := client.Open(filepath.Join(folder, "client-application.toml"), client.Options{})
	if err != nil {
		return err
	}
	defer vault.Close()

	// A tenant and what its customers look like: once, by the operator.
	tenant, err := operator.CreateTenant(ctx, "shop-"+client.NewRequestID()[:8], "Shop")
	if err != nil {
		return err
	}
	schema, err := operator.CreateSchema(ctx, tenant.Name, "customer", client.Schema{
		RetainFor: "P3Y",
		Fields: []client.Field{
			{Name: "email", Kind: client.KindEmail, Classification: client.ClassSensitive, Required: true, Unique: true},
			{Name: "born", Kind: client.KindDate, Classification: client.ClassSensitive},
		},
	})
	if err != nil {
		return err
	}

	// Create, find, change. Printing a record shows the names of its fields, not their values.
	ada, err := vault.Create(ctx, tenant.Name, client.NewRecord{
		Schema: schema.Name,
		Fields: client.Fields{"email": "ada@example.org", "born": client.Date{Year: 1815, Month: 12, Day: 10}},
	})
	if err != nil {
		return err
	}
	found, err := vault.Find(ctx, schema.Name, "email", "ada@example.org", client.View{Purpose: "delivery"})
	if err != nil {
		return err
	}
	fmt.Println("found", found.Records[0])
	ada, err = vault.Update(ctx, client.Change{
		Name: ada.Name, Etag: ada.Etag, Fields: client.Fields{"email": "countess@example.org"},
	})
	if err != nil {
		return err
	}

	// What is wrong is told by field, never by value.
	_, err = vault.Create(ctx, tenant.Name, client.NewRecord{
		Schema: schema.Name, Fields: client.Fields{"email": "countess@example.org"},
	})
	if own := (*client.Error)(nil); errors.Is(err, client.ErrDuplicate) && errors.As(err, &own) {
		fmt.Println("there is one with this", own.Field)
	}

	// Many at once. Keep the import id: with it an import that broke off goes on.
	customers := []client.NewRecord{
		{Schema: schema.Name, Fields: client.Fields{"email": "b@example.org"}},
		{Schema: schema.Name, Fields: client.Fields{"email": "not an address"}},
	}
	for chunk, err := range vault.Import(ctx, tenant.Name, client.NewRequestID(), client.All(customers)) {
		if err != nil {
			return err
		}
		for _, failure := range chunk.Failures {
			fmt.Println("refused", failure.Index, failure.Violations[0].Field)
		}
	}
	count := 0
	for _, err := range vault.Export(ctx, tenant.Name, client.Selection{View: client.View{Mask: []string{"email"}}}) {
		if err != nil {
			return err
		}
		count++
	}
	fmt.Println("exported", count)

	// Erase, and check the receipt without the vault, by a key noted earlier over a path that you trust.
	status, err := operator.Status(ctx)
	if err != nil {
		return err
	}
	receipt, err := vault.Erase(ctx, ada.Name, client.ReasonSubjectRequest, "")
	if err != nil {
		return err
	}
	verified, err := client.VerifyReceipt(receipt, status.PublicKey)
	if err != nil {
		return err
	}
	fmt.Println("erased, level", verified.Level)
	if _, err := vault.Get(ctx, ada.Name, client.View{}); !errors.Is(err, client.ErrErased) {
		return fmt.Errorf("it is still there: %w", err)
	}
	return nil
}

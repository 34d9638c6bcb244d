with

    customers as (select * from {{ ref("stg_shop__customers") }}),

    addresses as (select * from {{ ref("stg_shop__addresses") }}),

    final as (

        select
            -- ids
            customers.customer_id,

            -- strings
            customers.email,
            customers.age,
            customers.income,
            addresses.street,
            addresses.postcode,
            addresses.city,

            -- timestamps
            customers.created_at,
            greatest(customers.updated_at, addresses.updated_at) as updated_at

        from customers
        left join addresses using (customer_id)

    )

select *
from final

with

    products as (select * from {{ ref("stg_shop__products") }}),

    prices as (select * from {{ ref("stg_shop__prices") }}),

    latest_prices as (

        select
            product_id,
            max_by(price, valid_from) as price,
            max(valid_from) as valid_from
        from prices
        group by product_id

    ),

    final as (

        select
            -- ids
            cast(products.product_id as bigint) as product_id,
            cast(products.manufacturer_id as bigint) as manufacturer_id,

            -- strings
            cast(coalesce(products.department, 'UNKNOWN') as varchar) as department,
            cast(products.brand as varchar) as brand,
            cast(products.category as varchar) as category,
            cast(products.type as varchar) as type,
            cast(products.package_size as varchar) as package_size,

            -- numerics
            cast(latest_prices.price as decimal(12, 2)) as price,

            -- timestamps
            cast(latest_prices.valid_from as date) as price_valid_from

        from products
        left join latest_prices using (product_id)

    )

select *
from final
